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

// What a half does with its tile; z are its features' rows.
template <class Kind, int Width, class Place> struct PairTile {
  using Stored = typename Kind::Stored;
  using Edges = TileEdges<1>;
  static constexpr int kOwn = Width / 2;
  // Edge features come in one piece.
  static_assert(kEdgeGradientColumns <= 2 * kUnit<Kind> && kEdgeGradientColumns <= Width, "units that are loaded");

  const Tile<Kind, Width, 1, Place> tile;
  const Half half;

  CLOF_DEVICE const EdgeBlock& block() const { return tile.a; }
  CLOF_DEVICE const Lane& lane() const { return tile.lane; }
  // For addresses, which are cheaper to make again than to keep.
  CLOF_DEVICE Lane fresh_lane() const { return Lane(opaque(lane().number)); }
  CLOF_DEVICE int first_feature() const { return kOwn * half.half; }

  CLOF_DEVICE OperandRows<Kind, Width, kOwn> own_operand(char* slot) const {
    return OperandRows<Kind, Width, kOwn>(slot, half.pair, fresh_lane(), half.half * (kOwn / kUnit<Kind>));
  }
  CLOF_DEVICE OperandRows<Kind, Width> operand(char* slot) const {
    return OperandRows<Kind, Width>(slot, half.pair, fresh_lane());
  }
  CLOF_DEVICE Columns<Kind, kOwn> vector(int offset) const {
    return Columns<Kind, kOwn>(tile.weights.template vector<Place::kVectors>(offset) + first_feature(), fresh_lane());
  }
  CLOF_DEVICE Columns<Kind, kOwn> head(int axis) const {
    return vector(tile.weights.layout.head + axis * Width * int(sizeof(float)));
  }

  CLOF_DEVICE void first_linear(const Edges& edges, float own_radial, Rows<kOwn> (&z)[1]) const {
    const RowsInMemory features[1] = {tile.edge_features(edges, 0)};
    // On the way while the nodes' parts are added up.
    const LoadedUnits<Kind, 1> units(features, 0, lane());
    const Columns<Kind, kOwn> of_radial = vector(tile.weights.layout.radial);
    const auto* parts = static_cast<const Stored*>(block().parts) + first_feature();
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float radial = Edges::of_row(own_radial, h, lane());
#pragma unroll
      for (int n = 0; n < kOwn / 8; ++n) {
#pragma unroll
        for (int k = 0; k < 2; ++k) z[0].at[n][2 * h + k] = radial * of_radial.at[n][k];
      }
      const int64_t receiver = Edges::of_row(edges.own.receiver, h, lane());
      const int64_t sender = Edges::of_row(edges.own.sender, h, lane());
      add_row<Kind>(z[0], h, parts + 2 * receiver * Width, lane());
      add_row<Kind>(z[0], h, parts + (2 * sender + 1) * Width, lane());
    }
    const Stored* weight = tile.weights.template of_edges<Place::kEdges>(tile.weights.layout.edge);
    add_units<Kind, Width>(z, units, block().edge_features,
                           WeightReader<Kind, Width>(weight + first_feature() * Width, lane()));
  }

  // Replaces the operands in a slot, with which both halves have then finished; both can read them.
  CLOF_DEVICE void put_operand(char* slot, const Rows<kOwn>& rows) const {
    half.barrier();
    own_operand(slot).write(rows);
    half.barrier();
  }

  // The half's results of a square matrix, from all inputs in a slot.
  template <class Start>
  CLOF_DEVICE void square_product(Rows<kOwn> (&out)[1], char* slot, Matrix weight, const Start& start) const {
    const OperandRows<Kind, Width> rows[1] = {operand(slot)};
    product_of<Kind, Width>(out, rows, tile.weights.square(weight) + first_feature() * Width, fresh_lane(), start);
  }

  // Adds to sums over the half's features those over the other's. The slot's operands of this pair are lost.
  template <int Count> CLOF_DEVICE void add_other(float (&sums)[Count][2], char* slot) const {
    constexpr int kPairBytes = kRows * Width * int(sizeof(float));
    static_assert(2 * Count * kRows * int(sizeof(float)) <= kPairBytes, "sums of both halves fit");
    auto* place = reinterpret_cast<float*>(slot + half.pair * kPairBytes) + lane().g;
    half.barrier();
    if (lane().t == 0) {
#pragma unroll
      for (int k = 0; k < 2 * Count; ++k) place[(2 * Count * half.half + k) * 8] = sums[k / 2][k % 2];
    }
    half.barrier();
    // Sums of two numbers: both halves get the same bits.
#pragma unroll
    for (int k = 0; k < 2 * Count; ++k) sums[k / 2][k % 2] += place[(2 * Count * (1 - half.half) + k) * 8];
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
  CLOF_DEVICE void gates(const Rows<kOwn> (&message)[1], float (&gate)[2], char* slot) const {
    float sums[1][2];
    row_products<Kind, kOwn>(message, vector(tile.weights.layout.gate), sums[0]);
    add_other(sums, slot);
#pragma unroll
    for (int h = 0; h < 2; ++h) gate[h] = sigmoid(sums[0][h] + tile.scalar(kGateBias));
  }

  CLOF_DEVICE Vec3<float> coefficients(const Rows<kOwn> (&z)[1], char* slot) const {
    float sums[kMaxAxes][2] = {};
#pragma unroll
    for (int axis = 0; axis < kMaxAxes; ++axis) {
      if (axis < block().axes) row_products<Kind, kOwn>(z, head(axis), sums[axis]);
    }
    add_other(sums, slot);
    float q[kMaxAxes] = {};
#pragma unroll
    for (int axis = 0; axis < kMaxAxes; ++axis) {
      if (axis < block().axes) q[axis] = tile.coefficient(Edges::own_of(sums[axis], lane()), axis);
    }
    return {q[0], q[1], q[2]};
  }
};

}  // namespace clof::cuda
