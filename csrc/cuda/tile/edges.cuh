// Edges side by side in the order by receiver, and their geometry.
#pragma once

#include "../../functor/arguments.h"
#include "image.h"
#include "rows.cuh"

namespace clof::cuda {

// What the kernels of the edge block are called with; see FrameMessageArguments for names and shapes.
struct EdgeBlock {
  Graph graph;
  FrameMode mode;
  Activation activation;
  int axes;
  bool tanh, message_mean, vector_mean, gated;
  float clamp;
  int hidden, edge_features;
  int layers;  // of edge_mlp, beside the first
  bool coordinate;
  int64_t begin, end;  // places in the order by receiver
  const void* parts;   // (N, 2, Width): what the first Linear makes of each node as receiver, with the bias, and as sender
  const float* pos;
  const void* edge_attr;
  const void* edge_weight;
  const char* image;
  Image layout;
  void* message;
  float* vector;
  float* partial;  // sums of receivers that two warps share, see receivers.cuh
};

// The part of the edges [begin, end) that one of `warps` warps works on: whole tiles of `Size` edges, as equal as can be.
struct Range {
  int64_t begin, end;

  template <int Size> CLOF_DEVICE static Range of(const EdgeBlock& a, int64_t warp, int64_t warps) {
    const int64_t tiles = (a.end - a.begin + Size - 1) / Size;
    const int64_t last = a.begin + tiles * (warp + 1) / warps * Size;
    return {a.begin + tiles * warp / warps * Size, last < a.end ? last : a.end};
  }
};

// The edges of a warp's 16 or 32 rows. Row g + 8 h is in tile h / 2, as its row g + 8 (h % 2). Lane 4 g + t knows
// everything of one row, its own: h = t, and with 16 rows h = t % 2; and what leads to memory of rows g + 8 h, all h.
template <int Tiles> struct TileEdges {
  static constexpr int kHalves = 2 * Tiles, kSize = Tiles * kRows;

  int64_t place;
  int count;         // rows that are edges; the others repeat the last edge, or the first where there is none
  int own_receiver;  // -1 where the own row is no edge
  int own_edge;
  Ends<float> x;
  int receiver[kHalves], sender[kHalves], edge[kHalves];

  CLOF_DEVICE TileEdges(const EdgeBlock& a, int64_t first, int64_t end, const Lane& lane) : place(first) {
    count = int(end - place < kSize ? end - place : kSize);
    const int own = own_row(lane), row = own < count ? own : count > 0 ? count - 1 : 0;
    own_edge = a.graph.by_receiver[place + row];
    const int to = a.graph.receiver[own_edge], from = a.graph.sender[own_edge];
    x = {position(a.pos, to), position(a.pos, from)};
    own_receiver = own < count ? to : -1;
#pragma unroll
    for (int h = 0; h < kHalves; ++h) {
      receiver[h] = of_row(to, h, lane);
      sender[h] = of_row(from, h, lane);
      edge[h] = of_row(own_edge, h, lane);
    }
  }

  CLOF_DEVICE static int own_half(const Lane& lane) { return lane.t % kHalves; }
  CLOF_DEVICE static int own_row(const Lane& lane) { return lane.g + 8 * own_half(lane); }
  // What the owner of row g + 8 h knows.
  template <class T> CLOF_DEVICE static T of_row(T own, int h, const Lane& lane) {
    return shuffle(own, 4 * lane.g + h);
  }
  // Of numbers for each h that of the own row.
  CLOF_DEVICE static float own_of(const float (&values)[kHalves], const Lane& lane) {
    float own = values[0];
#pragma unroll
    for (int h = 1; h < kHalves; ++h) own = own_half(lane) == h ? values[h] : own;
    return own;
  }
  // Whether this lane is the one that counts for its own row.
  CLOF_DEVICE static bool counts(const Lane& lane) { return lane.t < kHalves; }
  CLOF_DEVICE bool exists(int h, const Lane& lane) const { return lane.g + 8 * h < count; }

  CLOF_DEVICE static Vec3<float> position(const float* pos, int node) {
    const float* at = pos + 3 * int64_t(node);
    return {at[0], at[1], at[2]};
  }

  // r = |x_i - x_j|^2 of the own row.
  CLOF_DEVICE float radial() const {
    const Vec3<float> d = x.i - x.j;
    return dot(d, d);
  }
};

// The vectors that the coefficients of an edge multiply: its frame, or for the radial basis the first row alone.
CLOF_DEVICE Mat3<float> basis_vectors(const EdgeBlock& a, const Ends<float>& x) {
  if (a.axes == 3) return edge_frame(a.mode, x);
  const Vec3<float> d = x.i - x.j, nothing = {0.0f, 0.0f, 0.0f};
  return {axis_scale(a.mode, d, 0.0f).factor * d, nothing, nothing};
}

CLOF_DEVICE float clamped(float x, float bound) { return x < -bound ? -bound : x > bound ? bound : x; }
CLOF_DEVICE Vec3<float> clamped(Vec3<float> v, float bound) {
  return {clamped(v.x, bound), clamped(v.y, bound), clamped(v.z, bound)};
}

// 1, or for a mean 1 / degree of a receiver that has edges.
CLOF_DEVICE float mean_scale(const EdgeBlock& a, bool mean, int receiver) {
  return mean ? 1.0f / float(a.graph.receiver_start[receiver + 1] - a.graph.receiver_start[receiver]) : 1.0f;
}

}  // namespace clof::cuda
