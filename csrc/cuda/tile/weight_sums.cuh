// Gradients of weights: summed in the registers of a block over all edges that it sees, then over blocks in their
// order.
//
// A warp has 16 results and half of the inputs of each matrix: rows 16 (warp / 2) ... + 15, and of the columns' blocks
// of eight those of its half.
#pragma once

#include "image.h"
#include "operand.cuh"

namespace clof::cuda {

// Where a block's sums lie in memory, counted in numbers; all in natural order.
struct SumPlaces {
  int layers[kMaxLayers], coordinate, edge, head, biases[kMaxLayers + 2], radial, scalars, total;
  int edge_columns;

  // Rows of `head`: the coefficients, then the gate.
  static constexpr int kHeadRows = kMaxAxes + 1;
  // Positions among biases: of the further layers, of the coordinate layer, of the first.
  static constexpr int kCoordinateBias = kMaxLayers, kFirstBias = kMaxLayers + 1;

  static SumPlaces of(const Image& image) {
    SumPlaces places = {};
    const int width = image.width;
    const auto add = [&](int count) {
      const int place = places.total;
      places.total += count;
      return place;
    };
    for (int& layer : places.layers) layer = add(width * width);
    places.coordinate = add(width * width);
    places.edge_columns = image.edge_columns;
    places.edge = add(width * image.edge_columns);
    places.head = add(kHeadRows * width);
    for (int& bias : places.biases) bias = add(width);
    places.radial = add(width);
    places.scalars = add(kScalars);
    return places;
  }
};

// A number for each edge of the block: the gradients of coefficients; when these have been read that of the gate's
// input; then r.
struct EdgeNumbers {
  static constexpr int kGate = 0, kRadial = 1, kCount = kMaxAxes;
  float* base;

  CLOF_DEVICE float& at(int which, int edge) const { return base[which * kBlockEdges + edge]; }
};

// A warp's blocks of columns of a matrix's sums.
template <int Blocks> struct MatrixSums {
  float at[Blocks][4];

  CLOF_DEVICE void clear() {
#pragma unroll
    for (auto& block : at) {
#pragma unroll
      for (float& x : block) x = 0.0f;
    }
  }
};

// Sums for all biases are columns of one block, in the order of SumPlaces::biases; that of a matrix is added to
// together with the matrix. One more column has what the first Linear's matrix has for r.
constexpr int kRadialColumn = SumPlaces::kFirstBias + 1;
static_assert(kRadialColumn < 8, "a block has eight columns");

// Columns' blocks of a warp: how many, from where.
CLOF_DEVICE int own_blocks(int columns) { return (columns / 8 + 1) / 2; }
CLOF_DEVICE int first_block(int columns, int warp) { return warp % 2 * own_blocks(columns); }

// Adds (gradients)^T (inputs of so many columns) over the edges of the block. bias_columns(s, c) gives the operand
// registers of what makes the columns of `biases`.
template <class Kind, int Width, int Blocks, class BiasColumns>
CLOF_DEVICE void add_gradients(MatrixSums<Blocks>& sums, float (&biases)[4], const char* grad, const char* inputs,
                               int columns, int warp, const Lane& lane, const BiasColumns& bias_columns) {
  const LeftReader<Kind, Width> left(grad, warp / 2, lane);
  const RightReader<Kind, Width, Blocks / 2> right(inputs, first_block(columns, warp), lane);
#pragma unroll 4
  for (int s = 0; s < kBlockEdges / kStepEdges<Kind>; ++s) {
    uint32_t a[4], b[4], c[2];
    left.read(a, s);
#pragma unroll
    for (int j = 0; j < Blocks; j += 2) {
      if (j < own_blocks(columns)) {
        right.read(b, s, j / 2);
        Kind::multiply(sums.at[j], a, b[0], b[1], sums.at[j]);
        Kind::multiply(sums.at[j + 1], a, b[2], b[3], sums.at[j + 1]);
      }
    }
    bias_columns(s, c);
    Kind::multiply(biases, a, c[0], c[1], biases);
  }
}

// A column of ones.
template <class Kind> struct Ones {
  uint32_t column;

  CLOF_DEVICE Ones(int which, const Lane& lane) {
    uint32_t same;
    edge_vectors<Kind>(column, same, 0, lane, [&](int) { return lane.g == which ? 1.0f : 0.0f; });
  }
  CLOF_DEVICE void operator()(int, uint32_t (&c)[2]) const { c[0] = c[1] = column; }
};

// A column of ones for the first Linear's bias, and that of r.
template <class Kind> struct OnesAndRadial {
  const float* radial;
  const Lane& lane;

  CLOF_DEVICE void operator()(int s, uint32_t (&c)[2]) const {
    edge_vectors<Kind>(c[0], c[1], s, lane, [&](int edge) {
      return lane.g == SumPlaces::kFirstBias ? 1.0f : lane.g == kRadialColumn ? radial[edge] : 0.0f;
    });
  }
};

// Adds (the numbers of edges, `count` rows)^T (inputs) to the rows from `first` on; a warp has the block of columns of
// its number.
template <class Kind, int Width> CLOF_DEVICE void add_head_gradients(float (&sums)[4], const EdgeNumbers& numbers,
                                                                     int first, int count, const char* inputs, int warp,
                                                                     const Lane& lane) {
  const BlockReader<Kind, Width> right(inputs, warp, lane);
  constexpr int kSteps = kRows / kStepEdges<Kind>;
  const int which = lane.g - first;
  const bool there = which >= 0 && which < count;
#pragma unroll 2
  for (int tile = 0; tile < kBackwardWarps; ++tile) {
    uint32_t b[4];
    right.read(b, tile);
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      uint32_t a[4] = {};
      edge_vectors<Kind>(a[0], a[2], kSteps * tile + k, lane,
                         [&](int edge) { return there ? numbers.at(which, edge) : 0.0f; });
      Kind::multiply(sums, a, b[2 * k], b[2 * k + 1], sums);
    }
  }
}

// Sums are written by the first chunk of edges, and added to by the others.
CLOF_DEVICE void put(float* to, float sum, bool first_chunk) { *to = first_chunk ? sum : *to + sum; }

template <class Kind, int Blocks> CLOF_DEVICE void write_matrix(const MatrixSums<Blocks>& sums, float* to, int columns,
                                                                bool first_chunk, int warp, const Lane& lane) {
#pragma unroll
  for (int j = 0; j < Blocks; ++j) {
    const int block = first_block(columns, warp) + j;
    if (j >= own_blocks(columns) || 8 * block >= columns) continue;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int row = left_feature<Kind>(warp / 2, k / 2, lane), column = right_feature<Kind>(block, k % 2, lane);
      put(to + row * columns + column, sums.at[j][k], first_chunk);
    }
  }
}

// A column of `biases`: of every row one lane has it.
template <class Kind> CLOF_DEVICE void write_bias(const float (&biases)[4], float* to, int column, bool first_chunk,
                                                  int warp, const Lane& lane) {
  if (warp % 2 || lane.t != column / 2) return;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    put(to + left_feature<Kind>(warp / 2, h, lane), column % 2 ? biases[2 * h + 1] : biases[2 * h], first_chunk);
  }
}

}  // namespace clof::cuda
