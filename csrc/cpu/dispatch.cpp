#include "dispatch.h"

#include <atomic>

#include "processor.h"

namespace clof::cpu {
namespace {

#ifdef CLOF_X86
// The same kernels with products of bfloat16 numbers on a unit of the processor's, or in its place.
Kernels with_unit(Kernels kernels, BFloat16Unit unit, const char* instruction_set) {
  kernels.unit = unit;
  kernels.instruction_set = instruction_set;
  return kernels;
}
#endif

struct Found {
  // Ordered from the slowest to the fastest.
  std::vector<Kernels> runnable = {scalar::kernels(), baseline::kernels()};
  std::vector<Kernels> emulated;

  Found() {
#ifdef CLOF_X86
    const Processor processor;
    if (processor.avx2) runnable.push_back(avx2::kernels());
    if (!processor.avx512) return;
    const Kernels& wide = avx512::kernels();
    // On Intel's processors dot products of pairs measured slower than products of float32 numbers.
    const bool pairs = processor.avx512_bfloat16 && processor.amd;
    runnable.push_back(with_unit(wide, pairs ? BFloat16Unit::pairs : BFloat16Unit::none, wide.instruction_set));
    if (!processor.avx512_bfloat16) return;
    emulated.push_back(with_unit(wide, BFloat16Unit::emulated_tiles, "avx512_emulated_amx"));
    if (processor.amx_bfloat16) runnable.push_back(with_unit(wide, BFloat16Unit::tiles, "avx512_amx"));
#endif
  }
};

const Found& found() {
  static const Found found;
  return found;
}

std::atomic<const Kernels*>& chosen() {
  static std::atomic<const Kernels*> kernels{&found().runnable.back()};
  return kernels;
}

std::vector<std::string> names_of(const std::vector<Kernels>& all) {
  std::vector<std::string> names;
  for (const Kernels& kernels : all) names.emplace_back(kernels.instruction_set);
  return names;
}

bool select_from(const std::vector<Kernels>& all, const std::string& instruction_set) {
  for (const Kernels& kernels : all) {
    if (instruction_set == kernels.instruction_set) {
      chosen().store(&kernels);
      return true;
    }
  }
  return false;
}

}  // namespace

const Kernels& kernels() { return *chosen().load(std::memory_order_relaxed); }

std::vector<std::string> available() { return names_of(found().runnable); }

std::vector<std::string> emulated() { return names_of(found().emulated); }

bool select(const std::string& instruction_set) {
  return select_from(found().runnable, instruction_set) || select_from(found().emulated, instruction_set);
}

}  // namespace clof::cpu
