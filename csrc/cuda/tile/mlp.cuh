// The perceptron of rows. A warp takes 16 rows through all Linears in its registers; a block packs the weights into its
// shared memory when it starts, so that the forward pass is one launch.
#pragma once

#include "mlp_pieces.cuh"

namespace clof::cuda {

constexpr int kMlpWarps = 8;

struct Mlp {
  MlpProblem problem;
  MlpLayout layout;
};

// Rows g and g + 8 of a tile; those beyond the end repeat the last row.
struct MlpTileRows {
  int64_t row[2];
  bool exists[2];

  CLOF_DEVICE MlpTileRows(int64_t first, int64_t rows, const Lane& lane) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      row[h] = first + lane.g + 8 * h;
      exists[h] = row[h] < rows;
      if (!exists[h]) row[h] = rows - 1;
    }
  }
  CLOF_DEVICE RowsInMemory of(const void* base, int64_t columns) const {
    return {base, {row[0] * columns, row[1] * columns}, int(columns)};
  }
};

template <class Kind, int Width, class Function> struct MlpTile {
  using Stored = typename Kind::Stored;

  const MlpProblem& p;
  const MlpLayout& layout;
  char* shared;
  Lane lane;

  CLOF_DEVICE Stored* weights(int64_t offset) const { return reinterpret_cast<Stored*>(shared + offset); }
  CLOF_DEVICE float* bias(int k) const { return reinterpret_cast<float*>(shared + layout.biases) + k * Width; }

  CLOF_DEVICE WeightColumns of_input(int k, int64_t first) const {
    return {p.linears[0].weight, p.columns[0], first, int(p.columns[1]), int(p.input_columns[k])};
  }
  CLOF_DEVICE WeightColumns of_layer(int k) const {
    return {p.linears[k].weight, p.columns[k], 0, int(p.columns[k + 1]), int(p.columns[k])};
  }

  // What both passes need; the block must meet at a barrier before it reads them.
  CLOF_DEVICE void pack() const {
    int64_t first = 0;
#pragma unroll 1
    for (int k = 0; k < p.num_inputs; ++k) {
      pack_weights<Kind, Width, kLine<Kind>>(weights(layout.inputs[k]), of_input(k, first));
      first += p.input_columns[k];
    }
#pragma unroll 1
    for (int k = 1; k < p.num_linears; ++k) {
      pack_weights<Kind, Width, Width>(weights(layout.layers[k]), of_layer(k));
    }
    for (int k = thread_index(); k < p.num_linears * Width; k += num_threads()) {
      const int linear = k / Width, column = k % Width;
      const bool there = column < p.columns[linear + 1];
      bias(linear)[column] = there ? load_number<Kind>(p.linears[linear].bias, column) : 0.0f;
    }
  }

  CLOF_DEVICE bool activated(int linear) const { return linear + 1 < p.num_linears || p.activate_last; }

  CLOF_DEVICE Columns<Kind, Width> start(int linear) const { return Columns<Kind, Width>(bias(linear), lane); }

  // The first Linear, before its activation.
  CLOF_DEVICE void first(const MlpTileRows& rows, Rows<Width>& z) const {
    const Columns<Kind, Width> from = start(0);
#pragma unroll
    for (int n = 0; n < Width / 8; ++n) {
#pragma unroll
      for (int k = 0; k < 4; ++k) z.at[n][k] = from.at[n][k % 2];
    }
#pragma unroll 1
    for (int k = 0; k < p.num_inputs; ++k) {
      const RowsInMemory input = rows.of(p.inputs[k], p.input_columns[k]);
      const Stored* line = weights(layout.inputs[k]);
#pragma unroll 1
      for (int column = 0; column < input.width; column += kLine<Kind>) {
        add_product<Kind, kLine<Kind>>(one(z), one(input), column, line, lane);
        line += Width * kLine<Kind>;
      }
    }
  }

  // A further Linear, in place.
  CLOF_DEVICE void further(int linear, Rows<Width>& z) const {
    Rows<Width> next;
    product<Kind>(one(next), one(z), weights(layout.layers[linear]), lane, start(linear));
    z = next;
  }
};

template <class Kind, int Width> CLOF_DEVICE void store_rows(const Rows<Width>& z, const MlpTileRows& rows, void* to,
                                                             int64_t columns, int first, const Lane& lane) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (!rows.exists[h]) continue;
    for_groups<Kind, Width>(lane, [&](int n, int column) {
      float values[Kind::kGroup];
#pragma unroll
      for (int k = 0; k < Kind::kGroup; ++k) values[k] = z.at[n + k / 2][2 * h + k % 2];
      store_group<Kind>(to, rows.row[h] * columns, first + column, int(columns), values);
    });
  }
}

template <class Kind, int Width, class Function> CLOF_DEVICE void mlp_forward(const Mlp& a) {
  const MlpProblem& p = a.problem;
  const MlpTile<Kind, Width, Function> tile = {p, a.layout, shared_memory(), Lane()};
  tile.pack();
  block_barrier();
  const int64_t tiles = (p.rows + kRows - 1) / kRows, warps = int64_t(num_blocks()) * kMlpWarps;
  // Neighbours are of different blocks: a few tiles keep many multiprocessors busy.
  const int64_t warp = thread_index() / kWarp * int64_t(num_blocks()) + block_index();
#pragma unroll 1
  for (int64_t k = warp; k < tiles; k += warps) {
    const MlpTileRows rows(k * kRows, p.rows, tile.lane);
    Rows<Width> z;
    tile.first(rows, z);
    if (tile.activated(0)) activate<Function>(z, p.activation);
#pragma unroll 1
    for (int linear = 1; linear < p.num_linears; ++linear) {
      tile.further(linear, z);
      if (tile.activated(linear)) activate<Function>(z, p.activation);
    }
    store_rows<Kind>(z, rows, p.out, p.columns[p.num_linears], 0, tile.lane);
  }
}

}  // namespace clof::cuda
