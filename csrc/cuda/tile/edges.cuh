// Edges side by side in the order by receiver, and their geometry.
#pragma once

#include "../../functor/arguments.h"
#include "image.h"
#include "rows.cuh"

namespace clof::cuda {

// What a prefetch brings.
constexpr int kLineBytes = 128;

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
  int begin, end;  // places in the order by receiver
  // (N, Width): what the first Linear makes of each node as receiver, with the bias, and as sender. The receivers' may
  // lie where messages go: a warp writes a receiver's message once it has read its row for the last time.
  const void *receivers, *senders;
  const float* pos;
  const void* edge_attr;
  const void* edge_weight;
  const char* image;
  Image layout;
  void* message;
  float* vector;
  float* partial;  // sums of receivers that two warps share, see receivers.cuh
};

// The part of the edges [begin, end) that one of `warps` warps works on: whole tiles of `Size` edges, as equal as can
// be.
struct Range {
  int begin, end;

  template <int Size> CLOF_DEVICE static Range of(const EdgeBlock& a, int warp, int warps) {
    const int64_t tiles = (int64_t(a.end) - a.begin + Size - 1) / Size;
    const int64_t last = a.begin + tiles * (warp + 1) / warps * Size;
    return {a.begin + int(tiles * warp / warps) * Size, last < a.end ? int(last) : a.end};
  }
  // The warp that has the edge at a place.
  template <int Size> CLOF_DEVICE static int warp_of(const EdgeBlock& a, int place, int warps) {
    const int64_t tiles = (int64_t(a.end) - a.begin + Size - 1) / Size, tile = (place - a.begin) / Size;
    return int(((tile + 1) * warps - 1) / tiles);
  }
};

CLOF_DEVICE void add_later(float* to, Vec3<float> v) {
  add_later(to, v.x);
  add_later(to + 1, v.y);
  add_later(to + 2, v.z);
}

// What leads to the edge of a lane's own row. Two loads that depend on each other bring it: a warp asks for the first
// two tiles ahead and for the second one tile ahead.
struct OwnEdge {
  int edge, receiver, sender;
};

// The edges of a warp's 16 or 32 rows. Row g + 8 h is in tile h / 2, as its row g + 8 (h % 2). Lane 4 g + t knows
// everything of one row, its own: h = t, and with 16 rows h = t % 2; the lanes of a row ask each other.
template <int Tiles> struct TileEdges {
  static constexpr int kHalves = 2 * Tiles, kSize = Tiles * kRows;

  int place;
  int count;  // rows that are edges; the others repeat the last edge, or the first where there is none
  OwnEdge own;
  bool own_exists;
  int own_start, own_stop;  // places of all edges of the own row's receiver
  Ends<float> x;

  CLOF_DEVICE TileEdges(const EdgeBlock& a, const OwnEdge& own_edge, int first, int end, const Lane& lane)
      : place(first), count(count_of(first, end)), own(own_edge), own_exists(own_row(lane) < count) {
    x = {position(a.pos, own.receiver), position(a.pos, own.sender)};
    own_start = a.graph.receiver_start[own.receiver];
    own_stop = a.graph.receiver_start[own.receiver + 1];
  }

  CLOF_DEVICE static int count_of(int first, int end) { return end - first < kSize ? end - first : kSize; }
  // The edge of the own row of the tile at a place, or one nearby where there is none.
  CLOF_DEVICE static int load_edge(const EdgeBlock& a, int first, int end, const Lane& lane) {
    const int own = first + own_row(lane), last = end - 1 > a.begin ? end - 1 : a.begin;
    return a.graph.by_receiver[own < last ? own : last];
  }
  CLOF_DEVICE static OwnEdge load_ends(const EdgeBlock& a, int edge) {
    return {edge, a.graph.receiver[edge], a.graph.sender[edge]};
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

  CLOF_DEVICE int own_degree() const { return own_stop - own_start; }

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
CLOF_DEVICE float mean_scale(bool mean, int degree) { return mean ? 1.0f / float(degree) : 1.0f; }

// Walks over the tiles of a range, always asking for what the next ones need.
template <int Tiles> class TileWalk {
 public:
  using Edges = TileEdges<Tiles>;

  CLOF_DEVICE TileWalk(const EdgeBlock& block, const Range& own_range, const Lane& own_lane)
      : a(block), range(own_range), lane(own_lane) {
    own_ = Edges::load_ends(a, Edges::load_edge(a, range.begin, range.end, lane));
    next_edge_ = Edges::load_edge(a, range.begin + Edges::kSize, range.end, lane);
  }

  // The tile at `place`; calls follow each other in steps of a tile. Behind the range tiles are empty.
  CLOF_DEVICE Edges next(int place, int row_bytes) {
    const Edges edges(a, own_, place, place < range.end ? range.end : place, lane);
    own_ = Edges::load_ends(a, next_edge_);
    if (a.edge_attr != nullptr) {
      const char* row = static_cast<const char*>(a.edge_attr) + int64_t(next_edge_) * row_bytes;
#pragma unroll 1
      for (int k = 0; k < row_bytes; k += kLineBytes) prefetch(row + k);
    }
    next_edge_ = Edges::load_edge(a, place + 2 * Edges::kSize, range.end, lane);
    return edges;
  }

 private:
  const EdgeBlock& a;
  const Range& range;
  const Lane& lane;
  OwnEdge own_;
  int next_edge_;
};

}  // namespace clof::cuda
