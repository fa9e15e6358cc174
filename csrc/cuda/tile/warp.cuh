// What the edge block's kernels need of the machine: who a thread is, barriers, exchange between the lanes of a warp,
// products on tensor cores, and copies to shared memory. tests/cpp/emulated_{gpu,copies,products}.h give the same
// names to a C++ compiler, so that the kernels run without a GPU.
#pragma once

#ifdef CLOF_EMULATED_GPU
#include "emulated_copies.h"
#include "emulated_gpu.h"
#include "emulated_products.h"
#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace clof::cuda {

#define CLOF_DEVICE __device__ __forceinline__
#define CLOF_CALLED __device__ __noinline__ static

CLOF_DEVICE int thread_index() { return threadIdx.x; }
CLOF_DEVICE int block_index() { return blockIdx.x; }
CLOF_DEVICE int num_blocks() { return gridDim.x; }
CLOF_DEVICE int num_threads() { return blockDim.x; }
// The block's dynamic shared memory, aligned to 16 bytes.
CLOF_DEVICE char* shared_memory() {
  extern __shared__ int4 clof_shared_memory[];
  return reinterpret_cast<char*>(clof_shared_memory);
}

CLOF_DEVICE void block_barrier() { __syncthreads(); }
CLOF_DEVICE void warp_barrier() { __syncwarp(); }

// Sets a flag in shared memory that any thread may set. Others see it after a barrier.
CLOF_DEVICE void raise_flag(int& flag) { *const_cast<volatile int*>(&flag) = 1; }

// Four numbers to global memory at once; left alone, the compiler may write them one by one.
CLOF_DEVICE void store_four(float* to, float x, float y, float z, float w) {
  asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" : : "l"(to), "f"(x), "f"(y), "f"(z), "f"(w) : "memory");
}

// Adds to global memory without waiting for what is there.
CLOF_DEVICE void add_later(float* to, float x) { asm volatile("red.global.add.f32 [%0], %1;" : : "l"(to), "f"(x)); }

// Asks for the 128 bytes around an address to be brought to the second-level cache.
CLOF_DEVICE void prefetch(const void* address) { asm volatile("prefetch.global.L2 [%0];" : : "l"(address)); }

// Begins to copy 16 bytes, aligned, to shared memory. The thread that asked sees them after copies_arrive(), others
// after a barrier from then on.
CLOF_DEVICE void copy_later(void* to, const void* from) {
  const uint32_t address = uint32_t(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" : : "r"(address), "l"(from) : "memory");
}
CLOF_DEVICE void copies_arrive() { asm volatile("cp.async.wait_all;" : : : "memory"); }

// The value of the lane whose number differs in the bits of `mask`; of the lane `lane`.
CLOF_DEVICE float shuffle_xor(float value, int mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }
CLOF_DEVICE int shuffle_xor(int value, int mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }
CLOF_DEVICE float shuffle(float value, int lane) { return __shfl_sync(0xffffffffu, value, lane); }
CLOF_DEVICE int shuffle(int value, int lane) { return __shfl_sync(0xffffffffu, value, lane); }
// Bit k: whether the condition holds in lane k.
CLOF_DEVICE uint32_t ballot(bool condition) { return __ballot_sync(0xffffffffu, condition); }
// Position of the lowest bit that is 1, of which there must be one; number of bits that are 1.
CLOF_DEVICE int lowest_bit(uint32_t bits) { return __ffs(int(bits)) - 1; }
CLOF_DEVICE int popcount(uint32_t bits) { return __popc(bits); }

CLOF_DEVICE uint32_t bits_of(float x) { return __float_as_uint(x); }
CLOF_DEVICE float float_of(uint32_t bits) { return __uint_as_float(bits); }
// Rounded to TF32: from Hopper on one instruction, before it three.
CLOF_DEVICE uint32_t to_tf32(float x) {
  uint32_t out;
#if __CUDA_ARCH__ >= 900
  asm("cvt.rn.tf32.f32 %0, %1;" : "=r"(out) : "f"(x));
#else
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(out) : "f"(x));
#endif
  return out;
}
// Two numbers rounded to 16 bits, the first in the lower half.
CLOF_DEVICE uint32_t pack_bfloat16(float low, float high) {
  uint32_t out;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
}
CLOF_DEVICE uint32_t pack_float16(float low, float high) {
  uint32_t out;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
}
CLOF_DEVICE float low_bfloat16(uint32_t pair) { return float_of(pair << 16); }
CLOF_DEVICE float high_bfloat16(uint32_t pair) { return float_of(pair & 0xffff0000u); }
CLOF_DEVICE float low_float16(uint32_t pair) { return __half2float(__ushort_as_half(uint16_t(pair))); }
CLOF_DEVICE float high_float16(uint32_t pair) { return __half2float(__ushort_as_half(uint16_t(pair >> 16))); }

// One instruction each, good to about two roundings of float32; tanh to 2^-11, no more than TF32 is.
CLOF_DEVICE float fast_exp2(float x) {
  float out;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
}
CLOF_DEVICE float fast_reciprocal(float x) {
  float out;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
}
CLOF_DEVICE float fast_tanh(float x) {
  float out;
  asm("tanh.approx.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
}

// d (16 x 8) = a (16 x K) b (K x 8) + c, with K = 8 numbers of TF32 or 16 numbers of 16 bits; registers as in PTX's
// mma.
CLOF_DEVICE void mma_tf32(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, const float (&c)[4]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
}
CLOF_DEVICE void mma_bfloat16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, const float (&c)[4]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
}
CLOF_DEVICE void mma_float16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, const float (&c)[4]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
}
// Four 8 x 8 matrices of 16-bit numbers from shared memory, transposed: lane 8 k + r names the address of row r (16
// bytes, aligned) of matrix k; out[k] holds of matrix k what PTX's ldmatrix.x4.trans gives.
CLOF_DEVICE void load_transposed(uint32_t (&out)[4], const void* row) {
  const uint32_t address = uint32_t(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address)
               : "memory");
}
// The same as they are: out[k] holds of matrix k, of row lane / 4, the four bytes from 4 (lane % 4) on.
CLOF_DEVICE void load_matrices(uint32_t (&out)[4], const void* row) {
  const uint32_t address = uint32_t(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address)
               : "memory");
}

}  // namespace clof::cuda
#endif
