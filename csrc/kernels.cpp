// Chooses the instruction set, cuts the work into tasks and joins their results.
#include "kernels.h"

#include <limits>
#include <mutex>
#include <stdexcept>
#include <string>

#include "geometry.h"
#include "operators.h"
#include "parallel.h"

namespace arena {

namespace baseline {
extern const Kernels kernels;
}
#ifdef ARENA_X86
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}
#endif

namespace {

std::vector<const Kernels*> supported() {  // best first
  std::vector<const Kernels*> sets;
#ifdef ARENA_X86
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl"))
    sets.push_back(&avx512::kernels);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) sets.push_back(&avx2::kernels);
#endif
  sets.push_back(&baseline::kernels);
  return sets;
}

std::atomic<const Kernels*>& active() {
  static std::atomic<const Kernels*> kernels{supported().front()};
  return kernels;
}

// Points or images a task: small enough that threads finish together.
constexpr std::int64_t kSweepRun = 200, kDecodeRun = 64, kDescentRun = 4;

std::int64_t runs(std::int64_t count, std::int64_t run) { return (count + run - 1) / run; }

// One list of the best k points per image, joined from the lists of tasks in any order: the order of `better` is total.
class BestLists {
 public:
  // Nothing worse than the last of `score`, joined already, is kept: placeholders, which `join` leaves out again.
  BestLists(std::int64_t images, int k, const float* score, std::int64_t stride)
      : k_(k), score_(images * k), index_(images * k, std::numeric_limits<std::int64_t>::max()) {
    for (std::int64_t i = 0; i < images; ++i) {
      lists_.push_back({&score_[i * k], &index_[i * k], k});
      std::fill_n(lists_.back().score, k, score[i * stride + k - 1]);
    }
  }
  const Best* lists() const { return lists_.data(); }

  // score, index: those of image 0 and one class, the next image `stride` further.
  void join(float* score, std::int64_t* index, std::int64_t stride) const {
    for (std::size_t image = 0; image < lists_.size(); ++image)
      for (int i = 0; i < k_; ++i) insert(score + image * stride, index + image * stride, image * k_ + i);
  }

 private:
  void insert(float* score, std::int64_t* index, std::size_t from) const {
    int at = k_;
    for (; at > 0 && better(score_[from], index_[from], score[at - 1], index[at - 1]); --at)
      if (at < k_) score[at] = score[at - 1], index[at] = index[at - 1];
    if (at < k_) score[at] = score_[from], index[at] = index_[from];
  }

  int k_;
  std::vector<float> score_;
  std::vector<std::int64_t> index_;
  std::vector<Best> lists_;
};

// score, index [B, C, k] from task(class, first, count, lists, scratch) over runs of points.
template <class Task>
void best_points(std::int64_t points, View<3> score, View<3, std::int64_t> index, int threads, Task&& task) {
  Shapes{true, {}}("score", score, "BCK")("index", index, "BCK");
  const std::int64_t images = score.shape[0], classes = score.shape[1], k = score.shape[2];
  std::fill_n(score.data, images * classes * k, std::numeric_limits<float>::infinity());
  std::fill_n(index.data, images * classes * k, std::numeric_limits<std::int64_t>::max());
  if (images == 0) return;
  const std::int64_t tasks = runs(points, kSweepRun);
  std::mutex mutex;
  parallel_for(classes * tasks, threads, active().load()->scratch_size, [&](std::int64_t i, void* scratch) {
    const std::int64_t c = i / tasks, first = i % tasks * kSweepRun;
    std::unique_lock<std::mutex> lock(mutex);
    const BestLists best(images, static_cast<int>(k), score.data + c * k, classes * k);
    lock.unlock();
    task(c, first, std::min(kSweepRun, points - first), best.lists(), scratch);
    lock.lock();
    best.join(score.data + c * k, index.data + c * k, classes * k);
  });
}

// The rows of one class from point `first` on.
template <class T>
Rows<T> rows_of(const ClassRows<T>& rows, std::int64_t label, std::int64_t first) {
  return {rows.at(label, first), rows.point_stride};
}

void decode_rows(ConstView<2> packed, ClassRows<const float> z, ClassRows<float> image, std::int64_t points,
                 int threads) {
  const Kernels& kernels = *active();
  const std::int64_t tasks = runs(points, kDecodeRun);
  parallel_for(packed.shape[0] * tasks, threads, kernels.scratch_size, [&](std::int64_t i, void* scratch) {
    const std::int64_t c = i / tasks, first = i % tasks * kDecodeRun;
    kernels.decode(packed.data + c * kernels.packed_size, rows_of(z, c, first), rows_of(image, c, first),
                   std::min(kDecodeRun, points - first), scratch);
  });
}

Shapes shapes() { return {true, {{'F', kFoldedSize}, {'W', packed_size()}}}; }

}  // namespace

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const Kernels* kernels : supported()) names.emplace_back(kernels->name);
  return names;
}

std::string instruction_set() { return active().load()->name; }

void set_instruction_set(const std::string& name) {
  for (const Kernels* kernels : supported())
    if (name == kernels->name) {
      active() = kernels;
      return;
    }
  throw std::invalid_argument("this CPU or build has no instruction set named " + name);
}

std::int64_t packed_size() { return active().load()->packed_size; }

void pack(ConstView<2> folded, View<2> packed) {
  shapes()("folded", folded, "CF")("packed", packed, "CW");
  const Kernels& kernels = *active();
  for (std::int64_t c = 0; c < folded.shape[0]; ++c)
    kernels.pack(folded.data + c * kFoldedSize, packed.data + c * kernels.packed_size);
}

void decode(ConstView<2> packed, ConstView<3> z, View<3> image, int threads) {
  shapes()("packed", packed, "CW")("z", z, "BCL")("image", image, "BCX");
  decode_rows(packed, points_by_class(z), points_by_class(image), z.shape[0], threads);
}

void latent_bank(ConstView<2> packed, ConstView<2> latents, View<3> bank, int threads) {
  shapes()("packed", packed, "CW")("latents", latents, "PL")("bank", bank, "CPX");
  decode_rows(packed, points_of_all_classes(latents), classes_by_point(bank), latents.shape[0], threads);
}

void decode_backward(ConstView<2> packed, ConstView<3> z, ConstView<3> gradient, View<3> dz, int threads) {
  shapes()("packed", packed, "CW")("z", z, "BCL")("gradient", gradient, "BCX")("dz", dz, "BCL");
  const Kernels& kernels = *active();
  const std::int64_t images = z.shape[0], tasks = runs(images, kDecodeRun);
  parallel_for(z.shape[1] * tasks, threads, kernels.scratch_size, [&](std::int64_t i, void* scratch) {
    const std::int64_t c = i / tasks, first = i % tasks * kDecodeRun;
    kernels.decode_backward(packed.data + c * kernels.packed_size, rows_of(points_by_class(z), c, first),
                            rows_of(points_by_class(gradient), c, first), rows_of(points_by_class(dz), c, first),
                            std::min(kDecodeRun, images - first), scratch);
  });
}

void latent_sweep(ConstView<2> packed, ConstView<2> latents, ConstView<2> x, View<3> score, View<3, std::int64_t> index,
                  int threads) {
  shapes()("packed", packed, "CW")("latents", latents, "PL")("x", x, "BX")("score", score, "BCK");
  const Kernels& kernels = *active();
  const auto task = [&](auto c, auto first, auto count, const Best* best, void* scratch) {
    kernels.latent_sweep(packed.data + c * kernels.packed_size, latents.data, first, count, {x.data, kPixels},
                         x.shape[0], best, scratch);
  };
  best_points(latents.shape[0], score, index, threads, task);
}

void bank_sweep(ConstView<3> bank, ConstView<2> latents, ConstView<2> x, View<3> score, View<3, std::int64_t> index,
                int threads) {
  shapes()("bank", bank, "CPX")("latents", latents, "PL")("x", x, "BX")("score", score, "BCK");
  const Kernels& kernels = *active();
  const auto task = [&](auto c, auto first, auto count, const Best* best, void*) {
    kernels.bank_sweep(classes_by_point(bank).at(c, 0), latents.data, first, count, {x.data, kPixels}, x.shape[0],
                       best);
  };
  best_points(latents.shape[0], score, index, threads, task);
}

void screen_bank(ConstView<3> bank, View<3, std::uint8_t> codes, View<1> error, int threads) {
  shapes()("bank", bank, "CPX")("codes", codes, "CPY")("error", error, "C");
  const Kernels& kernels = *active();
  const std::int64_t points = bank.shape[1], tasks = runs(points, kSweepRun);
  std::fill_n(error.data, error.shape[0], 0.0f);
  std::mutex mutex;
  parallel_for(bank.shape[0] * tasks, threads, 0, [&](std::int64_t i, void*) {
    const std::int64_t c = i / tasks, first = i % tasks * kSweepRun;
    const float of_run = kernels.screen_bank(classes_by_point(bank).at(c, first), classes_by_point(codes).at(c, first),
                                             std::min(kSweepRun, points - first));
    const std::lock_guard<std::mutex> lock(mutex);
    if (!(of_run <= error.data[c]) && error.data[c] == error.data[c]) error.data[c] = of_run;  // NaN stays
  });
}

std::int64_t screened_sweep(ConstView<3> bank, View<3, const std::uint8_t> codes, ConstView<1> error,
                            ConstView<2> latents, ConstView<2> x, View<3> score, View<3, std::int64_t> index,
                            int threads) {
  shapes()("bank", bank, "CPX")("codes", codes, "CPY")("error", error, "C")("latents", latents, "PL")("x", x, "BX")(
      "score", score, "BCK");
  const Kernels& kernels = *active();
  std::vector<std::int16_t> levels(x.shape[0] * kCodes);
  std::vector<Screened> screened;
  for (std::int64_t i = 0; i < x.shape[0]; ++i)
    screened.push_back(kernels.screen_image(x.data + i * kPixels, &levels[i * kCodes]));
  std::atomic<std::int64_t> scored{0};
  const auto task = [&](auto c, auto first, auto count, const Best* best, void*) {
    std::vector<float> limits(x.shape[0]);
    scored += kernels.screened_sweep(classes_by_point(bank).at(c, 0), {classes_by_point(codes).at(c, 0), error.data[c]},
                                     latents.data, first, count, {x.data, kPixels}, screened.data(), x.shape[0], best,
                                     limits.data());
  };
  best_points(latents.shape[0], score, index, threads, task);
  return scored;
}

void latent_descent(ConstView<2> packed, ConstView<3> z0, ConstView<2> x, Descent settings, View<2> score, View<3> z,
                    std::optional<View<3>> reconstruction, int threads) {
  Shapes check = shapes();
  check("packed", packed, "CW")("z0", z0, "BCL")("x", x, "BX")("score", score, "BC")("z", z, "BCL");
  if (reconstruction) check("reconstruction", *reconstruction, "BCX");
  const Kernels& kernels = *active();
  const std::int64_t images = z0.shape[0], classes = z0.shape[1], tasks = runs(images, kDescentRun);
  parallel_for(classes * tasks, threads, kernels.scratch_size, [&](std::int64_t i, void* scratch) {
    const std::int64_t c = i / tasks, first = i % tasks * kDescentRun;
    Rows<float> pixels{nullptr, 0};
    if (reconstruction) pixels = rows_of(points_by_class(*reconstruction), c, first);
    kernels.latent_descent(packed.data + c * kernels.packed_size, settings, rows_of(points_by_class(z0), c, first),
                           {x.data + first * kPixels, kPixels}, rows_of(points_by_class(z), c, first),
                           {score.data + first * classes + c, classes}, pixels, std::min(kDescentRun, images - first),
                           scratch);
  });
}

}  // namespace arena
