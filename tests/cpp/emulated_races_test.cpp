// Kernels with and without races on the emulated GPU, one for each run: emulated_races_test NAME. ThreadSanitizer ends
// the process with exit code 66 if it finds one; an unknown name, with 2.
#include "emulated_copies.h"
#include "emulated_gpu.h"
#include "emulated_products.h"

#include <functional>
#include <map>
#include <string>

using namespace clof::cuda;

namespace {

constexpr int kThreads = 64, kBlocks = 2;
float global_numbers[1024];

float* shared_numbers() { return reinterpret_cast<float*>(shared_memory()); }
float& of_block(int k) { return global_numbers[kThreads * block_index() + k]; }

// Each thread leaves a number and, after `between`, reads that of the thread whose number differs by `mask`.
template <class Between> void exchange_numbers(int mask, const Between& between) {
  const int t = thread_index();
  shared_numbers()[t] = float(t);
  between();
  of_block(t) = shared_numbers()[t ^ mask];
}

// Reads rows of matrices that all threads of the block have written, then writes there after `between`.
template <class Between> void read_matrices(const Between& between) {
  const int t = thread_index();
  shared_numbers()[t] = 0.0f;
  block_barrier();
  uint32_t out[4];
  load_matrices(out, shared_numbers() + 4 * (t % 16));
  between();
  shared_numbers()[t] = float(out[0]);
}

// Copies are asked for by some threads, and all read them after `between`.
template <class Between> void copy_numbers(const Between& between) {
  const int t = thread_index();
  if (t < kThreads / 4) copy_later(shared_numbers() + 4 * t, global_numbers + 4 * t);
  between();
  global_numbers[512 + kThreads * block_index() + t] = shared_numbers()[t];
}

const std::map<std::string, std::function<void()>> kernels = {
    {"block_barrier", [] { exchange_numbers(32, [] { block_barrier(); }); }},
    {"warp_barrier", [] { exchange_numbers(1, [] { warp_barrier(); }); }},
    {"own numbers", [] { exchange_numbers(0, [] {}); }},
    {"no barrier", [] { exchange_numbers(1, [] {}); }},
    {"shuffle for a barrier", [] { exchange_numbers(1, [] { shuffle(1.0f, 0); }); }},
    {"warp_barrier between warps", [] { exchange_numbers(32, [] { warp_barrier(); }); }},
    {"blocks on one place",
     [] {
       block_barrier();
       global_numbers[thread_index()] = 1.0f;
     }},
    {"block reads what another wrote",
     [] {
       of_block(thread_index()) = 1.0f;
       block_barrier();
       if (block_index() == 1) shared_numbers()[thread_index()] = global_numbers[(thread_index() + 5) % kThreads];
     }},
    {"flag that any may raise",
     [] {
       int& flag = reinterpret_cast<int*>(shared_numbers())[0];
       if (thread_index() == 0) flag = 0;
       block_barrier();
       if (thread_index() % 2) raise_flag(flag);
       block_barrier();
       of_block(thread_index()) = float(flag);
     }},
    {"matrices, then a barrier", [] { read_matrices([] { block_barrier(); }); }},
    {"matrices, no barrier", [] { read_matrices([] {}); }},
    {"copies, then a barrier",
     [] {
       copy_numbers([] {
         copies_arrive();
         block_barrier();
       });
     }},
    {"copies, no barrier", [] { copy_numbers([] { copies_arrive(); }); }},
};

}  // namespace

int main(int count, char** arguments) {
  const auto found = count == 2 ? kernels.find(arguments[1]) : kernels.end();
  if (found == kernels.end()) return 2;
  // Twice: what launches do to the same memory is ordered.
  for (int k = 0; k < 2; ++k) launch(kBlocks, kThreads, kThreads * sizeof(float), found->second);
}
