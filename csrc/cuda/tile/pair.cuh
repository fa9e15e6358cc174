// Two warps for each tile of 16 edges, each with half of the hidden features: half of the registers of a tile, so that
// a multiprocessor holds four warps a scheduler in the backward pass, whose time is spent in waiting. A product needs
// all features of its rows: what the other half has of them goes through shared memory, as operands in a slot.
#pragma once

#include "operand.cuh"
#include "tile.cuh"

namespace clof::cuda {

constexpr int kPairThreads = 2 * kWarp;

// Which half of which pair this thread's warp is.
struct Half {
  int pair, half;

  // The same in all lanes, which the shuffles tell the compiler.
  CLOF_DEVICE Half() : pair(shuffle(thread_index() / kPairThreads, 0)), half(shuffle(thread_index() / kWarp % 2, 0)) {}

  CLOF_DEVICE int warp() const { return 2 * pair + half; }
  CLOF_DEVICE bool first() const { return half == 0; }
  CLOF_DEVICE void barrier() const { named_barrier(1 + pair, kPairThreads); }
};

// Four numbers of a row of `width` numbers in memory, from column `column` on, a multiple of four.
template <class Kind>
CLOF_DEVICE void store_four_columns(void* base, int64_t row, int column, int width, const float (&values)[4]) {
  if (width % Kind::kGroup == 0) {
    if (column >= width) return;
    auto* at = static_cast<typename Kind::Stored*>(base) + row + column;
    if constexpr (Kind::kHalf) {
      *reinterpret_cast<uint2*>(at) = {Kind::pack(values[0], values[1]), Kind::pack(values[2], values[3])};
    } else {
      *reinterpret_cast<float4*>(at) = {values[0], values[1], values[2], values[3]};
    }
    return;
  }
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    if (column + k < width) store_number<Kind>(base, row + column + k, values[k]);
  }
}

// What a half does with its tiles; z are its features' rows. The functions of Tile, and what the backward pass needs
// beside them.
template <class Kind, int Width, int Tiles_, class Place> struct PairTile {
  using Stored = typename Kind::Stored;
  static constexpr int Tiles = Tiles_, kOwn = Width / 2, kThreads = kPairThreads, kHalves = 2 * Tiles;
  // A pair's part of a slot.
  static constexpr int kOperandBytes = Tiles * kRows * Width * int(sizeof(float));
  using Edges = TileEdges<Tiles>;

  const Tile<Kind, Width, Tiles, Place> tile;
  const Half half;
  char* const way;  // a slot for the operands of products on the way to the coefficients, and for sums

  CLOF_DEVICE static PairTile of(const EdgeBlock& block, const Weights<Kind>& image, char* way) {
    return {{block, image, Lane()}, Half(), way};
  }

  CLOF_DEVICE int worker() const { return half.pair; }
  CLOF_DEVICE const EdgeBlock& block() const { return tile.a; }
  CLOF_DEVICE const Lane& lane() const { return tile.lane; }
  // For addresses, which are cheaper to make again than to keep.
  CLOF_DEVICE Lane fresh_lane() const { return Lane(opaque(lane().number)); }
  CLOF_DEVICE int first_feature() const { return kOwn * half.half; }

  CLOF_DEVICE OperandRows<Kind, Width, kOwn> own_operand(char* slot, int k = 0) const {
    return OperandRows<Kind, Width, kOwn>(slot, Tiles * half.pair + k, fresh_lane(), half.half * (kOwn / kUnit<Kind>));
  }
  CLOF_DEVICE OperandRows<Kind, Width> operand(char* slot, int k = 0) const {
    return OperandRows<Kind, Width>(slot, Tiles * half.pair + k, fresh_lane());
  }
  CLOF_DEVICE Columns<Kind, kOwn> vector(int offset) const {
    return tile.template columns<kOwn>(offset, first_feature(), fresh_lane());
  }
  CLOF_DEVICE Columns<Kind, kOwn> head(int axis) const {
    return vector(tile.weights.layout.head + axis * Width * int(sizeof(float)));
  }

  CLOF_DEVICE void first_linear(const Edges& edges, float own_radial, Rows<kOwn> (&z)[Tiles]) const {
    tile.first_linear_from(first_feature(), edges, own_radial, z);
  }

  // Replaces the operands in a slot, with which both halves have then finished; both can read them.
  CLOF_DEVICE void put_operand(char* slot, const Rows<kOwn> (&rows)[Tiles]) const {
    half.barrier();
#pragma unroll
    for (int k = 0; k < Tiles; ++k) own_operand(slot, k).write(rows[k]);
    half.barrier();
  }

  // The half's results of a square matrix, from all inputs in a slot.
  template <class Start>
  CLOF_DEVICE void square_product(Rows<kOwn> (&out)[Tiles], char* slot, Matrix weight, const Start& start) const {
    const auto* weights = tile.weights.square(weight) + first_feature() * Width;
    if constexpr (Tiles == 1) {
      const OperandRows<Kind, Width> rows[1] = {operand(slot)};
      product_of<Kind, Width>(out, rows, weights, fresh_lane(), start);
    } else {
      static_assert(Tiles == 2, "one tile or two");
      const OperandRows<Kind, Width> rows[2] = {operand(slot, 0), operand(slot, 1)};
      product_of<Kind, Width>(out, rows, weights, fresh_lane(), start);
    }
  }

  CLOF_DEVICE void linear(const Rows<kOwn> (&z)[Tiles], Matrix weight, int bias, Rows<kOwn> (&out)[Tiles]) const {
    put_operand(way, z);
    square_product(out, way, weight, vector(bias));
  }

  // Adds to sums over the half's features those over the other's. The slot's operands of this pair are lost.
  template <int Count> CLOF_DEVICE void add_other(float (&sums)[Count][kHalves], char* slot) const {
    static_assert(2 * Count * Tiles * kRows * int(sizeof(float)) <= kOperandBytes, "sums of both halves fit");
    auto* place = reinterpret_cast<float*>(slot + half.pair * kOperandBytes) + lane().g;
    constexpr int kNumbers = Count * kHalves;
    half.barrier();
    if (lane().t == 0) {
#pragma unroll
      for (int k = 0; k < kNumbers; ++k) place[(kNumbers * half.half + k) * 8] = sums[k / kHalves][k % kHalves];
    }
    half.barrier();
    // Sums of two numbers: both halves get the same bits.
#pragma unroll
    for (int k = 0; k < kNumbers; ++k) {
      sums[k / kHalves][k % kHalves] += place[(kNumbers * (1 - half.half) + k) * 8];
    }
  }

  // The dot products of a lane's two rows with two others, over all features.
  CLOF_DEVICE void dot_rows(const Rows<kOwn>& x, const Rows<kOwn>& y, float (&dots)[1][2], char* slot) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      dots[0][h] = 0.0f;
#pragma unroll
      for (int n = 0; n < kOwn / 8; ++n) {
#pragma unroll
        for (int k = 2 * h; k < 2 * h + 2; ++k) dots[0][h] += x.at[n][k] * y.at[n][k];
      }
      dots[0][h] += shuffle_xor(dots[0][h], 1);
      dots[0][h] += shuffle_xor(dots[0][h], 2);
    }
    add_other(dots, slot);
  }

  // See Tile::gates and Tile::coefficients.
  CLOF_DEVICE void gates(const Rows<kOwn> (&message)[Tiles], float (&gate)[kHalves]) const {
    float sums[1][kHalves];
    row_products<Kind, kOwn>(message, vector(tile.weights.layout.gate), sums[0]);
    add_other(sums, way);
#pragma unroll
    for (int h = 0; h < kHalves; ++h) gate[h] = sigmoid(sums[0][h] + tile.scalar(kGateBias));
  }

  CLOF_DEVICE Vec3<float> coefficients(const Rows<kOwn> (&z)[Tiles]) const {
    float sums[kMaxAxes][kHalves] = {};
#pragma unroll
    for (int axis = 0; axis < kMaxAxes; ++axis) {
      if (axis < block().axes) row_products<Kind, kOwn>(z, head(axis), sums[axis]);
    }
    add_other(sums, way);
    float q[kMaxAxes] = {};
#pragma unroll
    for (int axis = 0; axis < kMaxAxes; ++axis) {
      if (axis < block().axes) q[axis] = tile.coefficient(Edges::own_of(sums[axis], lane()), axis);
    }
    return {q[0], q[1], q[2]};
  }
  CLOF_DEVICE float edge_weight(int edge) const { return tile.edge_weight(edge); }
};

}  // namespace clof::cuda
