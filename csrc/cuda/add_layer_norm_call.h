// How a call of add_layer_norm becomes the arguments of its kernels. No CUDA here, so that tests can run the kernels
// without a GPU.
#pragma once

#include <algorithm>

#include "tile/layer_norm.cuh"

namespace clof::cuda {

constexpr int kNormThreads = 256;

// Bytes of numbers that a lane holds of the longest rows: with sums and cotangents they just fit into registers.
constexpr int kNormLaneBytes = 96;
template <class Number> constexpr int kWidestNorm = kLanes * kNormLaneBytes / int(sizeof(Number));

inline bool is_half(Storage storage) { return storage == Storage::bfloat16 || storage == Storage::float16; }

inline const char* norm_limit(Storage x, Storage h, Storage weight, int64_t width) {
  const bool uniform = x == h && h == weight;
  const bool beside_halves = is_half(x) && weight == Storage::float32 && (h == x || h == weight);
  if (!uniform && !beside_halves) return "x, h and weight have one dtype, or x is half and weight float32";
  if (weight == Storage::float64 && width > kWidestNorm<double>) return "rows of float64 have at most 384 features";
  return width > kWidestNorm<float> ? "rows have at most 768 features" : nullptr;
}
static_assert(kWidestNorm<float> == 768 && kWidestNorm<double> == 384, "what the sentences say");

// body(NormTypes) for the numbers of a call.
template <class Body> auto with_norm_types(const AddLayerNormProblem& p, const Body& body) {
  const auto with_half = [&](auto half) {
    using X = decltype(half);
    if (p.storage == p.x_storage) return body(NormTypes<X, X, X>());
    if (p.h_storage == p.x_storage) return body(NormTypes<X, X, float>());
    return body(NormTypes<X, float, float>());
  };
  if (p.x_storage == Storage::bfloat16) return with_half(BFloat16());
  if (p.x_storage == Storage::float16) return with_half(Half());
  if (p.x_storage == Storage::float64) return body(NormTypes<double, double, double>());
  return body(NormTypes<float, float, float>());
}

// Whether all rows can be read four numbers at a time.
inline bool in_fours(const AddLayerNormProblem& p) {
  constexpr uintptr_t kBytes = 16;
  uintptr_t bits = 0;
  for (const void* tensor : {p.x, p.h, p.weight, p.bias, p.grad}) bits |= reinterpret_cast<uintptr_t>(tensor);
  for (void* tensor : {p.out, p.grad_x, p.grad_h}) bits |= reinterpret_cast<uintptr_t>(tensor);
  return p.width % 4 == 0 && bits % kBytes == 0;
}

// body(RowShape) for the rows of a call.
template <class Number, class Body> void with_norm_shape(const AddLayerNormProblem& p, const Body& body) {
  constexpr int kMost = kNormLaneBytes / int(sizeof(Number));
  if (in_fours(p)) {
    if (p.width <= 64) return body(RowShape<8, 4, 2>());
    if (p.width <= 128) return body(RowShape<32, 4, 1>());
    return body(RowShape<32, 4, kMost / 4>());
  }
  if (p.width <= 128) return body(RowShape<32, 1, 4>());
  return body(RowShape<32, 1, kMost>());
}

// Blocks of threads that take rows: no more than there is work for, and at most so many.
template <class Shape> int64_t norm_blocks(int64_t rows, int64_t most) {
  constexpr int kBlockRows = kNormThreads / kLanes * Shape::rows;
  return std::min((rows + kBlockRows - 1) / kBlockRows, most);
}

// Blocks of threads that finish the gradients of weight and bias.
template <class Types> int64_t norm_finish_blocks(const AddLayerNormProblem& p) {
  constexpr int kColumns = AddLayerNormFinish<Types>::columns;
  return (2 * p.width + kColumns - 1) / kColumns;
}

}  // namespace clof::cuda
