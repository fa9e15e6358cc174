#include "processor.h"

#ifdef CLOF_X86

#include <cpuid.h>

#include <cstdint>

#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace clof::cpu {
namespace {

// Intel's manual, volume 2, CPUID leaf 7, subleaf 0, register EDX.
constexpr unsigned kAmxBFloat16 = 1u << 22, kAmxTile = 1u << 24;
// Volume 1, chapter 13: the two states of AMX in the register XCR0.
constexpr int kTileConfiguration = 17, kTileData = 18;

bool processor_has_amx() {
  unsigned eax, ebx, ecx, edx;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return false;
  return (edx & kAmxBFloat16) != 0 && (edx & kAmxTile) != 0;
}

bool system_saves_tiles() {
  unsigned eax, ebx, ecx, edx;
  constexpr unsigned has_xgetbv = 1u << 27;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || (ecx & has_xgetbv) == 0) return false;
  uint32_t low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  constexpr uint32_t both = 1u << kTileConfiguration | 1u << kTileData;
  return (low & both) == both;
}

bool system_permits_tiles() {
#if defined(__linux__) && defined(SYS_arch_prctl)
  // The kernel's ARCH_REQ_XCOMP_PERM; kernels without it refuse.
  constexpr int request_permission = 0x1023;
  return syscall(SYS_arch_prctl, request_permission, kTileData) == 0;
#else
  return false;
#endif
}

}  // namespace

Processor::Processor() {
  __builtin_cpu_init();
  amd = __builtin_cpu_is("amd");
  avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  avx512_bfloat16 = avx512 && __builtin_cpu_supports("avx512bf16");
  amx_bfloat16 = avx512_bfloat16 && processor_has_amx() && system_saves_tiles() && system_permits_tiles();
}

}  // namespace clof::cpu

#endif
