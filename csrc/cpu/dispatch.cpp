#include "dispatch.h"

#include <atomic>

namespace clof::cpu {
namespace {

// Ordered from the slowest to the fastest.
std::vector<const Kernels*> find() {
  std::vector<const Kernels*> found = {&scalar::kernels(), &baseline::kernels()};
#ifdef CLOF_X86
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2) found.push_back(&avx2::kernels());
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
    found.push_back(&avx512::kernels());
  }
#endif
  return found;
}

const std::vector<const Kernels*>& runnable() {
  static const std::vector<const Kernels*> found = find();
  return found;
}

std::atomic<const Kernels*>& chosen() {
  static std::atomic<const Kernels*> kernels{runnable().back()};
  return kernels;
}

}  // namespace

const Kernels& kernels() { return *chosen().load(std::memory_order_relaxed); }

std::vector<std::string> available() {
  std::vector<std::string> names;
  for (const Kernels* kernels : runnable()) names.emplace_back(kernels->instruction_set);
  return names;
}

bool select(const std::string& instruction_set) {
  for (const Kernels* kernels : runnable()) {
    if (instruction_set == kernels->instruction_set) {
      chosen().store(kernels);
      return true;
    }
  }
  return false;
}

}  // namespace clof::cpu
