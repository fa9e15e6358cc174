// What both passes do with a tile of 16 edges: the first Linear, the further ones, the coefficients.
#pragma once

#include "activation.cuh"
#include "edges.cuh"
#include "product.cuh"

namespace clof::cuda {

// The image of weights: its first `shared` bytes in shared memory, the rest where it was made.
template <class Kind> struct Weights {
  using Stored = typename Kind::Stored;

  const Image& layout;
  const char* in_shared;
  const char* in_global;

  CLOF_DEVICE const Stored* square(Matrix place) const {
    return reinterpret_cast<const Stored*>(in_shared + place.offset);
  }
  template <bool kShared> CLOF_DEVICE const Stored* of_edges(Matrix place) const {
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
  for (int k = thread_index(); k < bytes / 16; k += num_threads()) to[k] = from[k];
}

// Which parts of the image a pass has in shared memory, beside the square matrices.
template <bool kVectorsShared_, bool kEdgesShared_> struct Residence {
  static constexpr bool kVectors = kVectorsShared_, kEdges = kEdgesShared_;

  static CLOF_HD int bytes(const Image& image) {
    return kEdges ? image.bytes : kVectors ? image.vector_bytes : image.square_bytes;
  }
};

template <class Kind, int Width, class Place> struct Tile {
  using Stored = typename Kind::Stored;

  const EdgeBlock& a;
  Weights<Kind> weights;
  Lane lane;

  CLOF_DEVICE Columns<Kind, Width> vector(int offset) const {
    return Columns<Kind, Width>(weights.template vector<Place::kVectors>(offset), lane);
  }
  CLOF_DEVICE float scalar(int which) const {
    return weights.template vector<Place::kVectors>(weights.layout.scalars)[which];
  }

  CLOF_DEVICE Columns<Kind, Width> head(int axis) const {
    return vector(weights.layout.head + axis * Width * int(sizeof(float)));
  }

  CLOF_DEVICE RowsInMemory edge_features(const TileEdges& edges) const {
    return {a.edge_attr, {int64_t(edges.edge[0]) * a.edge_features, int64_t(edges.edge[1]) * a.edge_features},
            a.edge_features};
  }

  // The first Linear: what it makes of the two nodes was computed before, once for each node.
  CLOF_DEVICE void first_linear(const TileEdges& edges, const float (&radial)[2], Rows<Width>& z) const {
    const Columns<Kind, Width> of_radial = vector(weights.layout.radial);
#pragma unroll
    for (int n = 0; n < Width / 8; ++n) {
#pragma unroll
      for (int k = 0; k < 4; ++k) z.at[n][k] = radial[k / 2] * of_radial.at[n][k % 2];
    }
    const auto* parts = static_cast<const Stored*>(a.parts);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      add_row<Kind>(z, h, parts + 2 * int64_t(edges.receiver[h]) * Width, lane);
      add_row<Kind>(z, h, parts + (2 * int64_t(edges.sender[h]) + 1) * Width, lane);
    }
    if (a.edge_features > 0) {
      add_product<Kind>(z, edge_features(edges), 0, weights.template of_edges<Place::kEdges>(weights.layout.edge),
                        weights.layout.edge_columns, lane);
    }
  }

  CLOF_DEVICE void linear(const Rows<Width>& z, Matrix weight, int bias, Rows<Width>& out) const {
    const Columns<Kind, Width> start = vector(bias);
#pragma unroll
    for (int n = 0; n < Width / 8; ++n) {
#pragma unroll
      for (int k = 0; k < 4; ++k) out.at[n][k] = start.at[n][k % 2];
    }
    add_product<Kind>(out, z, weights.square(weight), lane);
  }

  // What att_mlp makes of each of a lane's two rows, after its sigmoid.
  CLOF_DEVICE void gates(const Rows<Width>& message, float (&gate)[2]) const {
    row_products<Kind, Width>(message, vector(weights.layout.gate), gate);
    for (float& x : gate) x = sigmoid(x + scalar(kGateBias));
  }

  // The coefficients of the own row, after tanh as an option.
  CLOF_DEVICE Vec3<float> coefficients(const Rows<Width>& z) const {
    float q[kMaxAxes] = {};
#pragma unroll
    for (int axis = 0; axis < kMaxAxes; ++axis) {
      if (axis >= a.axes) break;
      float sums[2];
      row_products<Kind, Width>(z, head(axis), sums);
      const float x = (lane.t % 2 ? sums[1] : sums[0]) + scalar(kHeadBias + axis);
      q[axis] = a.tanh ? tanhf(x) : x;
    }
    return {q[0], q[1], q[2]};
  }

  CLOF_DEVICE float edge_weight(int edge) const {
    return a.edge_weight != nullptr ? load_number<Kind>(a.edge_weight, edge) : 1.0f;
  }
};

template <int Width> CLOF_DEVICE void scale_rows(Rows<Width>& rows, const float (&factor)[2]) {
#pragma unroll
  for (auto& block : rows.at) {
#pragma unroll
    for (int k = 0; k < 4; ++k) block[k] *= factor[k / 2];
  }
}

}  // namespace clof::cuda
