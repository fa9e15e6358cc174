// The forward pass of the edge block: every warp walks over its range of edges, 16 or 32 at a time, on its own.
#pragma once

#include "receivers.cuh"
#include "tile.cuh"

namespace clof::cuda {

constexpr int kForwardWarps = 8;
// Two tiles at a time share what is read of weights, where registers hold them.
template <int Width> constexpr int kForwardTiles = Width <= 64 ? 2 : 1;
template <int Width> constexpr int kForwardEdges = kForwardTiles<Width> * kRows;

// Weights are read from shared memory, all but those of edge features where these do not fit.
template <class Kind, int Width> using ForwardPlace = Residence<true, Width <= 64 || Kind::kHalf>;

template <class Kind> struct ForwardWrite {
  const EdgeBlock& a;

  CLOF_DEVICE void features(int receiver, int degree, int first, float x, float y) const {
    const float scale = mean_scale(a.message_mean, degree);
    const int64_t place = int64_t(receiver) * a.hidden + first;
    if (first < a.hidden) store_number<Kind>(a.message, place, scale * x);
    if (first + 1 < a.hidden) store_number<Kind>(a.message, place + 1, scale * y);
  }
  CLOF_DEVICE void vector(int receiver, int degree, Vec3<float> v) const {
    const float scale = mean_scale(a.vector_mean, degree);
    float* at = a.vector + 3 * int64_t(receiver);
    at[0] = scale * v.x;
    at[1] = scale * v.y;
    at[2] = scale * v.z;
  }
};

template <class Kind, class Function, int Width> CLOF_DEVICE void forward(const EdgeBlock& a) {
  using Place = ForwardPlace<Kind, Width>;
  constexpr int kTiles = kForwardTiles<Width>;
  using Edges = TileEdges<kTiles>;
  char* shared = shared_memory();
  copy_image(a.image, shared, Place::bytes(a.layout));
  block_barrier();
  const Tile<Kind, Width, kTiles, Place> tile = {a, {a.layout, shared, a.image}, Lane()};
  const Lane lane;
  const int warp = block_index() * kForwardWarps + thread_index() / kWarp;
  const Range range = Range::of<Edges::kSize>(a, warp, num_blocks() * kForwardWarps);
  ReceiverSums<Kind, Width> sums(a, range, warp, lane);
  const ForwardWrite<Kind> write = {a};
  const auto activate_all = [&](Rows<Width>(&rows)[kTiles]) {
#pragma unroll
    for (Rows<Width>& some : rows) activate<Function>(some, a.activation);
  };
  if (range.begin == range.end) return;
  TileWalk<kTiles> walk(a, range, lane);
#pragma unroll 1
  for (int place = range.begin; place < range.end; place += Edges::kSize) {
    const Edges edges = walk.next(place, a.edge_features * int(sizeof(typename Kind::Stored)));
    Rows<Width> z[kTiles], next[kTiles];
    tile.first_linear(edges, edges.radial(), z);
    activate_all(z);
    if (a.layers > 0) {
      tile.linear(z, a.layout.layers[0], a.layout.biases[0], next);
      activate_all(next);
      if (a.layers > 1) {
        tile.linear(next, a.layout.layers[1], a.layout.biases[1], z);
        activate_all(z);
      } else {
#pragma unroll
        for (int k = 0; k < kTiles; ++k) z[k] = next[k];
      }
    }
    if (a.gated) {
      float gate[2 * kTiles];
      tile.gates(z, gate);
      scale_rows(z, gate);
    }
    Vec3<float> q;
    if (a.coordinate) {
      tile.linear(z, a.layout.coordinate, a.layout.biases[kMaxLayers], next);
      activate_all(next);
      q = tile.coefficients(next);
    } else {
      q = tile.coefficients(z);
    }
    const float own_weight = tile.edge_weight(edges.own.edge);
    const Vec3<float> vector = own_weight * clamped(transposed(basis_vectors(a, edges.x), q), a.clamp);
    if (a.edge_weight != nullptr) {
      float weight[2 * kTiles];
#pragma unroll
      for (int h = 0; h < 2 * kTiles; ++h) weight[h] = Edges::of_row(own_weight, h, lane);
      scale_rows(z, weight);
    }
    sums.add(edges, z, vector, write);
  }
  sums.close(write);
}

template <class Kind, int Width> CLOF_DEVICE void forward_join(const EdgeBlock& a, int warps) {
  const int warp = (block_index() * num_threads() + thread_index()) / kWarp;
  if (warp < warps) join<Width, kForwardEdges<Width>>(a, warp, warps, Lane(), ForwardWrite<Kind>{a});
}

}  // namespace clof::cuda
