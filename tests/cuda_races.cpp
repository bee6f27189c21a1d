// Every CUDA body with a real thread for each of the GPU's and a barrier after each phase, for ThreadSanitizer, which
// ends a program that raced with a status other than 0. With the argument `sabotaged` one barrier is left out.
#include <algorithm>
#include <barrier>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>

#include "cuda_host.h"

using namespace arena;
using namespace arena::cuda;

namespace {

constexpr int kClasses = 2, kImages = 3, kPoints = 17, kBest = 2;

// One of the threads of a block.
struct RealThread {
  int thread;
  std::barrier<>& barrier;
  bool sabotaged;
  mutable int phase = 0;

  template <class F>
  void each(int items, F&& f) const {
    for (int i = thread; i < items; i += kThreads) f(i);
    if (++phase != 3 || !sabotaged) barrier.arrive_and_wait();
  }
};

struct RealThreads {
  bool sabotaged;

  template <class Body>
  void operator()(const Body& body, float* memory, BlockIndex id) const {
    std::barrier<> barrier(kThreads);
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i)
      threads.emplace_back([&, i] { body(RealThread{i, barrier, sabotaged}, memory, id); });
    for (std::thread& thread : threads) thread.join();
  }
};

// An array that owns its memory, full of pseudo-random numbers.
template <int RANK, class T = float>
struct Array : View<RANK, T> {
  std::unique_ptr<Quad[]> memory;

  template <class... N>
  explicit Array(N... lengths) : View<RANK, T>{nullptr, {lengths...}, kCpu} {
    const std::size_t size = (std::size_t{1} * ... * lengths);
    memory = std::make_unique<Quad[]>(size * sizeof(T) / sizeof(Quad) + 1);
    this->data = reinterpret_cast<T*>(memory.get());
    static std::uint32_t state = 1;
    for (std::size_t i = 0; i < size; ++i)
      this->data[i] = static_cast<T>((state = state * 1664525u + 1013904223u) / 4294967296.0 - 0.5);
  }

  ConstView<RANK> in() const {
    ConstView<RANK> view{this->data, {}, kCpu};
    std::copy_n(this->shape, RANK, view.shape);
    return view;
  }

  bool operator==(const Array& other) const {
    std::size_t size = 1;
    for (const std::int64_t length : this->shape) size *= length;
    return std::equal(this->data, this->data + size, other.data);
  }
};

// What every operator makes of the same input.
struct Results {
  Array<3> image{kImages, kClasses, kPixels}, dz{kImages, kClasses, kLatent}, bank{kClasses, kPoints, kPixels};
  Array<3> score{kImages, kClasses, kBest}, bank_score{kImages, kClasses, kBest}, z{kImages, kClasses, kLatent};
  Array<3> reconstruction{kImages, kClasses, kPixels};
  Array<3, std::int64_t> index{kImages, kClasses, kBest}, bank_index{kImages, kClasses, kBest};
  Array<2> lowest{kImages, kClasses};

  bool operator==(const Results&) const = default;
};

struct Arguments {
  Array<2> packed{kClasses, Packed::size}, latents{kPoints, kLatent}, columns{kPixels, kImages}, x{kImages, kPixels};
  Array<3> z{kImages, kClasses, kLatent}, gradient{kImages, kClasses, kPixels};
};

template <class Runner>
void run_all(const Runner& run, const Arguments& from, Results& to) {
  const ConstView<2> packed = from.packed.in(), latents = from.latents.in(), columns = from.columns.in();
  Array<4, std::int64_t> keys(sweep_lists_of(Runner::processors, kClasses, kPoints), kImages, kClasses, kBest);
  plan_decode(run, packed, from.z.in(), to.image);
  plan_decode_backward(run, packed, from.z.in(), from.gradient.in(), to.dz);
  plan_latent_bank(run, packed, latents, to.bank);
  plan_latent_sweep(run, packed, latents, columns, keys, to.score, to.index);
  plan_bank_sweep(run, to.bank.in(), latents, columns, keys, to.bank_score, to.bank_index);
  plan_latent_descent(run, packed, from.z.in(), from.x.in(), {2, 0.05f, 5.0f}, to.lowest, to.z, to.reconstruction);
}

}  // namespace

int main(int count, char** words) {
  const bool sabotaged = count > 1 && words[1] == std::string("sabotaged");
  const Arguments from;
  for (const bool two_points : {false, true}) {
    Results expected, found;
    run_all(Host<OneThread>{{1}, two_points}, from, expected);
    run_all(Host<RealThreads>{{sabotaged}, two_points}, from, found);
    if (found == expected || sabotaged) continue;
    std::puts("the threads of a block do not compute what one thread does");
    return 1;
  }
}
