// Chooses the instruction set, cuts the work into tasks and joins their results.
#include "operators.h"

#include <limits>
#include <mutex>
#include <stdexcept>
#include <string>

#include "geometry.h"
#include "kernels.h"
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
  BestLists(std::int64_t images, int k)
      : k_(k), score_(images * k, std::numeric_limits<float>::infinity()),
        index_(images * k, std::numeric_limits<std::int64_t>::max()) {
    for (std::int64_t i = 0; i < images; ++i) lists_.push_back({&score_[i * k], &index_[i * k], k});
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

// score, index [images][classes][k] from task(class, first, count, lists, scratch) over runs of points.
template <class Task>
void best_points(const Sizes& n, int k, int threads, float* score, std::int64_t* index, Task&& task) {
  const std::int64_t total = n.images * n.classes * k, tasks = runs(n.points, kSweepRun);
  std::fill(score, score + total, std::numeric_limits<float>::infinity());
  std::fill(index, index + total, std::numeric_limits<std::int64_t>::max());
  if (n.images == 0) return;
  std::mutex mutex;
  parallel_for(n.classes * tasks, threads, active().load()->scratch_size, [&](std::int64_t i, void* scratch) {
    const std::int64_t c = i / tasks, first = i % tasks * kSweepRun;
    const BestLists best(n.images, k);
    task(c, first, std::min(kSweepRun, n.points - first), best.lists(), scratch);
    const std::lock_guard<std::mutex> lock(mutex);
    best.join(score + c * k, index + c * k, n.classes * k);
  });
}

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

void pack(const float* folded, float* packed, std::int64_t classes) {
  const Kernels& kernels = *active();
  for (std::int64_t c = 0; c < classes; ++c) kernels.pack(folded + c * kFoldedSize, packed + c * kernels.packed_size);
}

void decode(const float* packed, const float* z, float* image, std::int64_t classes, std::int64_t points,
            Strides z_stride, Strides image_stride, int threads) {
  const Kernels& kernels = *active();
  const std::int64_t tasks = runs(points, kDecodeRun);
  parallel_for(classes * tasks, threads, kernels.scratch_size, [&](std::int64_t i, void* scratch) {
    const std::int64_t c = i / tasks, first = i % tasks * kDecodeRun;
    const Rows<const float> from{z + c * z_stride.of_class, z_stride.of_point};
    const Rows<float> to{image + c * image_stride.of_class, image_stride.of_point};
    kernels.decode(packed + c * kernels.packed_size, {from[first], from.stride}, {to[first], to.stride},
                   std::min(kDecodeRun, points - first), scratch);
  });
}

void decode_back(const float* packed, const float* z, const float* gradient, float* dz, const Sizes& n, int threads) {
  const Kernels& kernels = *active();
  const std::int64_t tasks = runs(n.images, kDecodeRun);
  parallel_for(n.classes * tasks, threads, kernels.scratch_size, [&](std::int64_t i, void* scratch) {
    const std::int64_t c = i / tasks, first = i % tasks * kDecodeRun, at = first * n.classes + c;
    const std::ptrdiff_t stride = n.classes;
    kernels.decode_back(packed + c * kernels.packed_size, {z + at * kLatent, stride * kLatent},
                        {gradient + at * kPixels, stride * kPixels}, {dz + at * kLatent, stride * kLatent},
                        std::min(kDecodeRun, n.images - first), scratch);
  });
}

void sweep(const float* packed, const float* latents, const float* x, float* score, std::int64_t* index,
           const Sizes& n, int k, int threads) {
  const Kernels& kernels = *active();
  best_points(n, k, threads, score, index, [&](auto c, auto first, auto count, const Best* best, void* scratch) {
    kernels.sweep(packed + c * kernels.packed_size, latents, first, count, {x, kPixels}, n.images, best, scratch);
  });
}

void score_bank(const float* bank, const float* latents, const float* x, float* score, std::int64_t* index,
                const Sizes& n, int k, int threads) {
  const Kernels& kernels = *active();
  best_points(n, k, threads, score, index, [&](auto c, auto first, auto count, const Best* best, void*) {
    kernels.score_bank(bank + c * n.points * kPixels, latents, first, count, {x, kPixels}, n.images, best);
  });
}

void descend(const float* packed, const float* z0, const float* x, float* score, float* z, float* reconstruction,
             const Sizes& n, int steps, float step_size, float radius, int threads) {
  const Kernels& kernels = *active();
  const std::int64_t tasks = runs(n.images, kDescentRun);
  parallel_for(n.classes * tasks, threads, kernels.scratch_size, [&](std::int64_t i, void* scratch) {
    const std::int64_t c = i / tasks, first = i % tasks * kDescentRun, at = first * n.classes + c;
    const std::ptrdiff_t stride = n.classes;
    kernels.descend(packed + c * kernels.packed_size, {steps, step_size, radius},
                    {z0 + at * kLatent, stride * kLatent}, {x + first * kPixels, kPixels},
                    {z + at * kLatent, stride * kLatent}, {score + at, stride},
                    {reconstruction ? reconstruction + at * kPixels : nullptr, stride * kPixels},
                    std::min(kDescentRun, n.images - first), scratch);
  });
}

}  // namespace arena
