// What this processor, and the operating system on it, runs.
#pragma once

namespace clof::cpu {

#ifdef CLOF_X86
struct Processor {
  bool amd, avx2, avx512, avx512_bfloat16;
  // Also asks the system for leave to use the tile registers, once for the process and all its threads.
  bool amx_bfloat16;

  Processor();
};
#endif

}  // namespace clof::cpu
