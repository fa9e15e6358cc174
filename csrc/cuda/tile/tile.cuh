// What both passes do with a warp's tiles of 16 edges: the first Linear, the further ones, the coefficients.
#pragma once

#include "activation.cuh"
#include "edges.cuh"
#include "product.cuh"

namespace clof::cuda {

// The image of weights: a part of it in shared memory, all of it where it was made.
template <class Kind> struct Weights {
  using Stored = typename Kind::Stored;

  const Image& layout;
  const char* in_shared;
  const char* in_global;

  template <bool kShared = true> CLOF_DEVICE const Stored* matrix(Matrix place) const {
    return reinterpret_cast<const Stored*>((kShared ? in_shared : in_global) + place.offset);
  }
  template <bool kShared> CLOF_DEVICE const float* vector(int offset) const {
    return reinterpret_cast<const float*>((kShared ? in_shared : in_global) + offset);
  }
};

// Copies the first bytes of the image to shared memory; the block must meet at a barrier before it reads them.
CLOF_DEVICE void copy_image(const char* image, char* shared, int bytes) {
  const auto* from = reinterpret_cast<const uint4*>(image);
  auto* to = reinterpret_cast<uint4*>(shared);
#pragma unroll 4
  for (int k = thread_index(); k < bytes / 16; k += num_threads()) to[k] = from[k];
}

// Which parts of the image a pass has in shared memory, beside the square matrices.
template <bool kVectorsShared_, bool kEdgesShared_> struct Residence {
  static constexpr bool kVectors = kVectorsShared_, kEdges = kEdgesShared_;

  static CLOF_HD int bytes(const Image& image) {
    return kEdges ? image.bytes : kVectors ? image.vector_bytes : image.square_bytes;
  }
};

template <class Kind, int Width, int Tiles, class Place> struct Tile {
  using Stored = typename Kind::Stored;
  using Edges = TileEdges<Tiles>;
  static constexpr int kHalves = 2 * Tiles;

  const EdgeBlock& a;
  Weights<Kind> weights;
  Lane lane;

  CLOF_DEVICE Columns<Kind, Width> vector(int offset) const {
    return Columns<Kind, Width>(weights.template vector<Place::kVectors>(offset), lane);
  }
  CLOF_DEVICE float scalar(int which) const {
    return weights.template vector<Place::kVectors>(weights.layout.scalars)[which];
  }

  CLOF_DEVICE RowsInMemory edge_features(const Edges& edges, int tile) const {
    return {a.edge_attr,
            {int64_t(Edges::of_row(edges.own.edge, 2 * tile, lane)) * a.edge_features,
             int64_t(Edges::of_row(edges.own.edge, 2 * tile + 1, lane)) * a.edge_features},
            a.edge_features};
  }

  // The first Linear: what it makes of the two nodes was computed before, once for each node.
  CLOF_DEVICE void first_linear(const Edges& edges, float own_radial, Rows<Width> (&z)[Tiles]) const {
    RowsInMemory features[Tiles];
#pragma unroll
    for (int k = 0; k < Tiles; ++k) features[k] = edge_features(edges, k);
    // On the way while the nodes' parts are added up.
    const LoadedUnits<Kind, Tiles> units(features, 0, lane);
    const Columns<Kind, Width> of_radial = vector(weights.layout.radial);
    const auto *receivers = static_cast<const Stored*>(a.receivers), *senders = static_cast<const Stored*>(a.senders);
#pragma unroll
    for (int h = 0; h < kHalves; ++h) {
      Rows<Width>& rows = z[h / 2];
      const int64_t receiver = Edges::of_row(edges.own.receiver, h, lane);
      const int64_t sender = Edges::of_row(edges.own.sender, h, lane);
      load_row<Kind>(rows, h % 2, receivers + receiver * Width, lane);
      add_row<Kind>(rows, h % 2, senders + sender * Width, lane);
      // Positions, which it is made of, arrive meanwhile.
      const float radial = Edges::of_row(own_radial, h, lane);
#pragma unroll
      for (int n = 0; n < Width / 8; ++n) {
#pragma unroll
        for (int k = 0; k < 2; ++k) rows.at[n][2 * (h % 2) + k] += radial * of_radial.at[n][k];
      }
    }
    const Stored* weight = weights.template matrix<Place::kEdges>(weights.layout.edge);
    add_units<Kind, Width>(z, units, a.edge_features, WeightReader<Kind, Width>(weight, lane));
    constexpr int kLoaded = 2 * kUnit<Kind>;
    for (int first = kLoaded; first < a.edge_features; first += kLoaded) {
      const LoadedUnits<Kind, Tiles> more(features, first, lane);
      const WeightReader<Kind, Width> reader(weight + first / Width * Width * Width, lane);
      add_units<Kind, Width>(z, more, a.edge_features - first, reader.at_pair(first % Width));
    }
  }

  CLOF_DEVICE void linear(const Rows<Width> (&z)[Tiles], Matrix weight, int bias, Rows<Width> (&out)[Tiles]) const {
    product<Kind>(out, z, weights.matrix(weight), lane, vector(bias));
  }

  // What att_mlp makes of each of a lane's rows, after its sigmoid.
  CLOF_DEVICE void gates(const Rows<Width> (&message)[Tiles], float (&gate)[kHalves]) const {
    row_products<Kind, Width>(message, vector(weights.layout.gate), gate);
    for (float& x : gate) x = sigmoid(x + scalar(kGateBias));
  }

  // The coefficients of the own row, after tanh as an option.
  template <class Operand> CLOF_DEVICE Vec3<float> coefficients(const Operand (&z)[Tiles]) const {
    Rows<kHeadResults> sums[Tiles];
    few_results<Kind>(sums, z, weights.template matrix<Place::kVectors>(weights.layout.head), lane);
    float q[kMaxAxes] = {};
#pragma unroll
    for (int axis = 0; axis < kMaxAxes; ++axis) {
      if (axis >= a.axes) break;
      // Results 2 t and 2 t + 1 are in lane t of a row.
      float of_rows[kHalves];
#pragma unroll
      for (int h = 0; h < kHalves; ++h) {
        of_rows[h] = shuffle(sums[h / 2].at[0][2 * (h % 2) + axis % 2], 4 * lane.g + axis / 2);
      }
      const float x = Edges::own_of(of_rows, lane) + scalar(kHeadBias + axis);
      q[axis] = a.tanh ? tanhf(x) : x;
    }
    return {q[0], q[1], q[2]};
  }

  CLOF_DEVICE float edge_weight(int edge) const {
    return a.edge_weight != nullptr ? load_number<Kind>(a.edge_weight, edge) : 1.0f;
  }
};

template <int Width, int Tiles>
CLOF_DEVICE void scale_rows(Rows<Width> (&rows)[Tiles], const float (&factor)[2 * Tiles]) {
#pragma unroll
  for (int n = 0; n < Width / 8; ++n) {
#pragma unroll
    for (int k = 0; k < 4 * Tiles; ++k) rows[k / 4].at[n][k % 4] *= factor[k / 2];
  }
}

}  // namespace clof::cuda
