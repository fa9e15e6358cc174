// The backward pass of the perceptron. A block takes 128 rows at a time: each warp computes its 16 again and then in
// reverse, and all of them together multiply gradients with inputs to gradients of weights. Those are added up in
// memory of the block's own: registers that could hold them for any depth are not there.
#pragma once

#include "mlp.cuh"
#include "operand.cuh"

namespace clof::cuda {

static_assert(kMlpBlockRows == kBlockEdges && kMlpWarps == kBackwardWarps, "operands are those of the edge block");

struct MlpGradient {
  Mlp mlp;
  float* sums;  // (blocks, MlpSumPlaces::total)
  MlpSumPlaces places;
};

// A block's sums of products of gradients with inputs: (results, columns), rows `stride` apart. One thread adds to
// each, and does not wait.
struct BlockSums {
  float* to;
  int64_t stride;
  float* bias;  // or null
  int results, columns;
  bool fresh;  // nothing has been added yet
};

// A warp has 16 results and half of the blocks of eight columns.
template <class Kind, int Width>
CLOF_DEVICE void add_products(const BlockSums& sums, const char* grad, const char* inputs, int warp, const Lane& lane) {
  static_assert(Width == kMlpWarps / 2 * 16, "eight warps cover all results");
  constexpr int kOwnBlocks = Width / 16;
  const int row = 16 * (warp / 2), blocks = (blocks_of<Kind>(sums.columns) + 1) / 2, first = warp % 2 * blocks;
  if (row >= sums.results) return;
  const bool with_bias = sums.bias != nullptr && warp % 2 == 0;
  float square[kOwnBlocks][4] = {}, bias[4] = {};
  const LeftReader<Kind, Width> left(grad, warp / 2, lane);
  const RightReader<Kind, Width, kOwnBlocks / 2> right(inputs, first, lane);
#pragma unroll 4
  for (int s = 0; s < kMlpBlockRows / kStepEdges<Kind>; ++s) {
    uint32_t a[4], b[4], ones[2];
    left.read(a, s);
#pragma unroll
    for (int j = 0; j < kOwnBlocks; j += 2) {
      if (j < blocks) {
        right.read(b, s, j / 2);
        Kind::multiply(square[j], a, b[0], b[1], square[j]);
        Kind::multiply(square[j + 1], a, b[2], b[3], square[j + 1]);
      }
    }
    if (with_bias) {
      edge_vectors<Kind>(ones[0], ones[1], s, lane, [&](int) { return lane.g == 0 ? 1.0f : 0.0f; });
      Kind::multiply(bias, a, ones[0], ones[1], bias);
    }
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int result = left_feature<Kind>(warp / 2, h, lane);
    if (result >= sums.results) continue;
#pragma unroll
    for (int j = 0; j < kOwnBlocks; ++j) {
      const int column = right_feature<Kind>(first + j, 0, lane);
      if (j >= blocks || column >= sums.columns) continue;
      float* at = sums.to + result * sums.stride + column;
      if (sums.fresh) {
        *reinterpret_cast<float2*>(at) = {square[j][2 * h], square[j][2 * h + 1]};
      } else {
        add_later(at, square[j][2 * h]);
        add_later(at + 1, square[j][2 * h + 1]);
      }
    }
    if (!with_bias || lane.t) continue;
    if (sums.fresh) sums.bias[result] = bias[2 * h];
    else add_later(sums.bias + result, bias[2 * h]);
  }
}

// Slots of gradients, and of inputs of the first Linear when those of the others are done.
constexpr int kGradients = 0, kInputs = 1;

template <class Kind, int Width, class Function> class MlpBackwardTile {
 public:
  using Stored = typename Kind::Stored;

  CLOF_DEVICE MlpBackwardTile(const MlpGradient& gradient, char* shared)
      : g_(gradient),
        p_(gradient.mlp.problem),
        layout_(gradient.mlp.layout),
        tile_{p_, layout_, shared, Lane()},
        warp_(thread_index() / kWarp),
        sums_(gradient.sums + block_index() * gradient.places.total) {}

  CLOF_DEVICE void pack() const {
    tile_.pack();
    int64_t first = 0;
#pragma unroll 1
    for (int k = 0; p_.input_gradients && k < p_.num_inputs; ++k) {
      const WeightColumns w = tile_.of_input(k, first);
      pack_transposed<Kind, Width>(tile_.weights(layout_.inputs_transposed[k]), w, whole_parts(w.inputs));
      first += p_.input_columns[k];
    }
#pragma unroll 1
    for (int k = 1; k < p_.num_linears; ++k) {
      pack_transposed<Kind, Width>(tile_.weights(layout_.layers_transposed[k]), tile_.of_layer(k), Width);
    }
  }

  // The block's rows from `first` on. `fresh`: they are its first.
  CLOF_DEVICE void run(int64_t first, bool fresh) const {
    const MlpTileRows rows(first + warp_ * kRows, p_.rows, lane());
    Rows<Width> z, grad;
    tile_.first(rows, z);
#pragma unroll 1
    for (int k = 1; k < p_.num_linears; ++k) {
      keep(z, slot(k), warp_, lane());
      activate<Function>(z, p_.activation);
      tile_.further(k, z);
    }
    load_gradient(rows, grad);
    if (p_.activate_last) {
      Rows<Width> slope;
      activate<Function>(z, slope, p_.activation);
      scale(grad, slope);
    }
#pragma unroll 1
    for (int k = p_.num_linears - 1; k > 0; --k) {
      Rows<Width> slope;
      take_back(z, slot(k), warp_, lane());
      activate<Function>(z, slope, p_.activation);
      // All lanes have taken back what they kept there.
      warp_barrier();
      const OperandRows<Kind, Width> taken[1] = {OperandRows<Kind, Width>::of(grad)};
      writer(kGradients).rows(taken[0]);
      writer(k).rows(OperandRows<Kind, Width>::of(z));
      block_barrier();
      const int64_t place = g_.places.layers[k];
      add_products<Kind, Width>({sums_ + place, Width, bias(k), int(p_.columns[k + 1]), int(p_.columns[k]), fresh},
                                slot(kGradients), slot(k), warp_, lane());
      Rows<Width> before;
      product<Kind>(one(before), taken, tile_.weights(layout_.layers_transposed[k]), lane(), NoStart());
      grad = before;
      scale(grad, slope);
      block_barrier();
    }
    const OperandRows<Kind, Width> taken = OperandRows<Kind, Width>::of(grad);
    writer(kGradients).rows(taken);
    first_weights(rows, fresh);
    if (p_.input_gradients) input_gradients(rows, taken);
  }

 private:
  const MlpGradient& g_;
  const MlpProblem& p_;
  const MlpLayout& layout_;
  const MlpTile<Kind, Width, Function> tile_;
  const int warp_;
  float* const sums_;

  CLOF_DEVICE const Lane& lane() const { return tile_.lane; }
  // Slot k holds what goes into the activation before Linear k, then what comes out of it.
  CLOF_DEVICE char* slot(int k) const {
    constexpr int kSlotBytes = kMlpBlockRows * Width * int(sizeof(float));
    return tile_.shared + layout_.slots + k * kSlotBytes;
  }
  CLOF_DEVICE OperandWriter<Kind, Width> writer(int k) const {
    return OperandWriter<Kind, Width>(slot(k), warp_, lane());
  }
  CLOF_DEVICE float* bias(int k) const { return sums_ + g_.places.biases + k * Width; }

  // Rows that do not exist have no gradient.
  CLOF_DEVICE void load_gradient(const MlpTileRows& rows, Rows<Width>& grad) const {
    const int columns = int(p_.columns[p_.num_linears]);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      load_narrow_row<Kind>(grad, h, p_.grad_out, rows.row[h] * columns, columns, lane());
#pragma unroll
      for (int n = 0; n < Width / 8; ++n) {
#pragma unroll
        for (int k = 2 * h; k < 2 * h + 2; ++k) grad.at[n][k] = rows.exists[h] ? grad.at[n][k] : 0.0f;
      }
    }
  }

  // Of the first Linear; the gradients lie in their slot. Its inputs take the slot behind, some columns at a time.
  CLOF_DEVICE void first_weights(const MlpTileRows& rows, bool fresh) const {
    float* with_bias = bias(0);
#pragma unroll 1
    for (int k = 0; k < p_.num_inputs; ++k) {
      const RowsInMemory input = rows.of(p_.inputs[k], p_.input_columns[k]);
#pragma unroll 1
      for (int first = 0; first < input.width; first += Width) {
        const int columns = input.width - first < Width ? input.width - first : Width;
        copy_columns(input, first, columns);
        block_barrier();
        add_products<Kind, Width>({sums_ + g_.places.inputs[k] + first, g_.places.first_columns, with_bias,
                                   int(p_.columns[1]), columns, fresh},
                                  slot(kGradients), slot(kInputs), warp_, lane());
        with_bias = nullptr;
        block_barrier();
      }
    }
    if (with_bias == nullptr) return;
    // There are no columns.
    block_barrier();
    add_products<Kind, Width>({nullptr, 0, with_bias, int(p_.columns[1]), 0, fresh}, slot(kGradients), slot(kInputs),
                              warp_, lane());
    block_barrier();
  }

  CLOF_DEVICE void copy_columns(const RowsInMemory& input, int first, int columns) const {
    const OperandWriter<Kind, Width> to = writer(kInputs);
#pragma unroll 1
    for (int unit = 0; unit * kUnit<Kind> < columns; ++unit) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const uint4 x = load_group<Kind>(input, h, first + unit * kUnit<Kind> + Kind::kGroup * lane().t);
        to.group(h, unit, operand_words<Kind>(x));
      }
    }
  }

  CLOF_DEVICE void input_gradients(const MlpTileRows& rows, const OperandRows<Kind, Width>& grad) const {
    constexpr int kPart = kInputGradientColumns;
#pragma unroll 1
    for (int k = 0; k < p_.num_inputs; ++k) {
      const int columns = int(p_.input_columns[k]);
#pragma unroll 1
      for (int first = 0; first < columns; first += kPart) {
        Rows<kPart> part;
        product<Kind>(one(part), one(grad), tile_.weights(layout_.inputs_transposed[k]) + first * Width, lane(),
                      NoStart());
        store_rows<Kind>(part, rows, p_.grad_inputs[k], columns, first, lane());
      }
    }
  }
};

template <class Kind, int Width, class Function> CLOF_DEVICE void mlp_backward(const MlpGradient& g) {
  const MlpBackwardTile<Kind, Width, Function> tile(g, shared_memory());
  tile.pack();
  block_barrier();
  const int64_t step = int64_t(num_blocks()) * kMlpBlockRows, begin = int64_t(block_index()) * kMlpBlockRows;
#pragma unroll 1
  for (int64_t first = begin; first < g.mlp.problem.rows; first += step) tile.run(first, first == begin);
}

}  // namespace clof::cuda
