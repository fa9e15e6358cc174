// The backward pass of the edge block. A block of threads takes tiles of as many edges as it has warps; each warp
// computes its 16 edges again and then in reverse, and all of them together add the products that make gradients of
// weights. Of each edge remains a row in memory for its sender, see senders.cuh.
#pragma once

#include "receivers.cuh"
#include "senders.cuh"
#include "tile.cuh"
#include "weight_sums.cuh"

namespace clof::cuda {

struct EdgeBlockGradients {
  EdgeBlock block;
  const void* grad_message;  // (N, H)
  const float* grad_vector;  // (N, 3)
  float* grad_parts;         // (N, 2, Width), added to
  float* grad_pos;           // (N, 3), added to
  void* grad_edge_attr;      // (E, D) or null
  void* grad_edge_weight;    // (E,) or null
  float* rows;               // (end - begin, Width + 4): what senders get of each edge
  float* sums;               // (blocks, SumPlaces::total)
  bool first_chunk;          // of several launches: sums are written, not added to
  bool with_scalars;         // there is a gate or the head has a bias
  SumPlaces places;
};

// float32 fills shared memory: there everything but the square matrices is read through the first-level cache.
template <class Kind> using BackwardPlace = Residence<Kind::kHalf, Kind::kHalf>;

// Slots of a block: two for inputs of activations, one for gradients, one for what they are multiplied with.
constexpr int kSlots = kMaxLayers + 2;
constexpr int kGradientSlot = kMaxLayers, kInputSlot = kMaxLayers + 1;

template <int Width> constexpr int kSlotBytes = kBlockEdges * Width * int(sizeof(float));

template <class Kind, int Width> int backward_shared_bytes(const Image& image) {
  return BackwardPlace<Kind>::bytes(image) + kSlots * kSlotBytes<Width> +
         (EdgeNumbers::kCount * kBlockEdges + kScalars * kBackwardWarps) * int(sizeof(float));
}

// In a launch one thread adds to a place: sums have a fixed order all the same.
struct BackwardWrite {
  float* grad_parts;
  float* grad_pos;
  int width;

  CLOF_DEVICE void features(int receiver, int, int first, float x, float y) const {
    float* at = grad_parts + 2 * int64_t(receiver) * width + first;
    add_later(at, x);
    add_later(at + 1, y);
  }
  CLOF_DEVICE void vector(int receiver, int, Vec3<float> v) const { add_later(grad_pos + 3 * int64_t(receiver), v); }
};

// Gradients by an edge's two positions, given that by its vector.
CLOF_DEVICE Ends<float> position_vjp(const EdgeBlock& a, const Ends<float>& x, Vec3<float> q, Vec3<float> by_vector) {
  if (a.axes == 3) {
    return edge_frame_vjp(frame_parts(a.mode, x), x, {q.x * by_vector, q.y * by_vector, q.z * by_vector});
  }
  const Vec3<float> d = x.i - x.j;
  const AxisScale<float> scale = axis_scale(a.mode, d, 0.0f);
  const Vec3<float> by_d = axis_vjp(scale, scale.factor * d, q.x * by_vector);
  return {by_d, -by_d};
}

// What the head leaves of the own row's edge.
struct OwnGradients {
  Ends<float> by_pos;  // by way of its vector
  Vec3<float> d;
  float by_weight;  // of the vector's part
};

template <class Kind, class Function, int Width> class BackwardTile {
 public:
  using Place = BackwardPlace<Kind>;
  using Edges = TileEdges<1>;

  CLOF_DEVICE BackwardTile(const EdgeBlockGradients& gradients, char* shared)
      : g(gradients),
        a(gradients.block),
        tile{a, {a.layout, shared, a.image}, Lane()},
        warp(thread_index() / kWarp),
        slots(shared + Place::bytes(a.layout)),
        numbers{reinterpret_cast<float*>(slots + kSlots * kSlotBytes<Width>)} {
#pragma unroll
    for (auto& layer : of_layers) layer.clear();
    of_coordinate.clear();
    of_edge.clear();
#pragma unroll
    for (int k = 0; k < 4; ++k) of_head[k] = biases[k] = 0.0f;
    // By the lane that adds to them.
    for (int k = 0; k < kScalars; ++k) {
      if (lane().number == 0) own_scalars()[k] = 0.0f;
    }
  }

  // A tile of every warp of the block, perhaps an empty one. All warps of the block call it together. What registers do
  // not hold waits in slots: z, the argument of the last activation, in one that is free until it is needed again.
  template <class Sums> CLOF_DEVICE void run(const Edges& edges, Sums& sums, const BackwardWrite& write) {
    const float own_radial = edges.radial();
    const int last_slot = a.coordinate ? kInputSlot : kGradientSlot;
    float gate[2] = {1.0f, 1.0f};
    OwnGradients own;
    Rows<Width> grad[1], slope;
    {
      Rows<Width> gated[1];
      forward(edges, own_radial, gated);
      keep(gated[0], slot(last_slot), warp, lane());
      activate<Function>(gated[0], a.activation);
      if (a.gated) {
        tile.gates(gated, gate);
        scale_rows(gated, gate);
      }
      if (a.coordinate) {
        Rows<Width> z[1];
        tile.linear(gated, a.layout.coordinate, a.layout.biases[kMaxLayers], z);
        activate<Function>(z[0], slope, a.activation);
        own = head_gradient(edges, z, kGradientSlot, grad[0]);
        scale(grad[0], slope);
      } else {
        own = head_gradient(edges, gated, kInputSlot, grad[0]);
      }
    }
    message_again(last_slot, gate, slope);
    if (a.coordinate) {
      const OperandRows<Kind, Width> taken[1] = {OperandRows<Kind, Width>::of(grad[0])};
      operand(kGradientSlot).rows(taken[0]);
      block_barrier();
      add_square(of_coordinate, SumPlaces::kCoordinateBias, kInputSlot);
      product<Kind>(grad, taken, tile.weights.matrix(a.layout.coordinate_transposed), lane(), NoStart());
      block_barrier();
    }
    message_gradient(edges, own.by_weight, grad[0]);
    if (a.gated) gate_gradient(gate, grad[0]);
    scale(grad[0], slope);
    // edge_mlp in reverse.
#pragma unroll
    for (int k = kMaxLayers - 1; k >= 0; --k) {
      if (k < a.layers) {
        Rows<Width> z;
        take_back(z, slot(k), warp, lane());
        activate<Function>(z, slope, a.activation);
        const OperandRows<Kind, Width> taken[1] = {OperandRows<Kind, Width>::of(grad[0])};
        operand(kGradientSlot).rows(taken[0]);
        // All lanes have taken back what they kept there.
        warp_barrier();
        operand(k).rows(OperandRows<Kind, Width>::of(z));
        block_barrier();
        add_square(of_layers[k], k, k);
        product<Kind>(grad, taken, tile.weights.matrix(a.layout.layers_transposed[k]), lane(), NoStart());
        scale(grad[0], slope);
        block_barrier();
      }
    }
    first_gradient(edges, own_radial, grad);
    float by_radial[2];
    row_products<Kind, Width>(grad, tile.vector(a.layout.radial), by_radial);
    const Vec3<float> along = (2.0f * Edges::own_of(by_radial, lane())) * own.d;
    write_rows(edges, grad[0], own.by_pos.j - along);
    sums.add(edges, grad, own.by_pos.i + along, write);
  }

  // Writes the sums of weights' gradients.
  CLOF_DEVICE void finish() {
    float* to = g.sums + int64_t(block_index()) * g.places.total;
#pragma unroll
    for (int k = 0; k < kMaxLayers; ++k) write(of_layers[k], to + g.places.layers[k], Width);
    write(of_coordinate, to + g.places.coordinate, Width);
    if (g.places.edge_columns) write(of_edge, to + g.places.edge, g.places.edge_columns);
#pragma unroll
    for (int k = 0; k <= SumPlaces::kFirstBias; ++k) {
      write_bias<Kind>(biases, to + g.places.biases[k], k, g.first_chunk, warp, lane());
    }
    write_bias<Kind>(biases, to + g.places.radial, kRadialColumn, g.first_chunk, warp, lane());
    if (lane().g < SumPlaces::kHeadRows) {
      float* head = to + g.places.head + lane().g * Width;
#pragma unroll
      for (int k = 0; k < 2; ++k) put(head + right_feature<Kind>(warp, k, lane()), of_head[k], g.first_chunk);
    }
    finish_scalars(to + g.places.scalars);
  }

 private:
  const EdgeBlockGradients& g;
  const EdgeBlock& a;
  const Tile<Kind, Width, 1, Place> tile;
  const int warp;
  char* const slots;
  const EdgeNumbers numbers;
  static constexpr int kSquareBlocks = Width / 16, kEdgeBlocks = kEdgeGradientColumns / 16;
  MatrixSums<kSquareBlocks> of_layers[kMaxLayers], of_coordinate;
  MatrixSums<kEdgeBlocks> of_edge;
  float of_head[4], biases[4];

  CLOF_DEVICE const Lane& lane() const { return tile.lane; }
  CLOF_DEVICE char* slot(int k) const { return slots + k * kSlotBytes<Width>; }
  CLOF_DEVICE OperandWriter<Kind, Width> operand(int k) const {
    return OperandWriter<Kind, Width>(slot(k), warp, lane());
  }
  // The warp's sums for the biases of the gate and of the head.
  CLOF_DEVICE float* own_scalars() const { return numbers.base + EdgeNumbers::kCount * kBlockEdges + kScalars * warp; }
  CLOF_DEVICE int own_edge() const { return kRows * warp + Edges::own_row(lane()); }

  CLOF_DEVICE void forward(const Edges& edges, float own_radial, Rows<Width> (&z)[1]) {
    tile.first_linear(edges, own_radial, z);
#pragma unroll
    for (int k = 0; k < kMaxLayers; ++k) {
      if (k < a.layers) {
        keep(z[0], slot(k), warp, lane());
        activate<Function>(z[0], a.activation);
        Rows<Width> next[1];
        tile.linear(z, a.layout.layers[k], a.layout.biases[k], next);
        z[0] = next[0];
      }
    }
  }

  // The dot products of a lane's two rows with two others.
  CLOF_DEVICE static void dot_rows(const Rows<Width>& x, const Rows<Width>& y, float (&dots)[2]) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      dots[h] = 0.0f;
#pragma unroll
      for (int n = 0; n < Width / 8; ++n) {
#pragma unroll
        for (int k = 2 * h; k < 2 * h + 2; ++k) dots[h] += x.at[n][k] * y.at[n][k];
      }
      dots[h] += shuffle_xor(dots[h], 1);
      dots[h] += shuffle_xor(dots[h], 2);
    }
  }

  // From the coefficients, made of `z`, to the positions and back to z, which goes to a slot.
  CLOF_DEVICE OwnGradients head_gradient(const Edges& edges, const Rows<Width> (&z)[1], int input_slot,
                                         Rows<Width>& grad) {
    const OperandRows<Kind, Width> taken[1] = {OperandRows<Kind, Width>::of(z[0])};
    const Vec3<float> q = tile.coefficients(taken);
    operand(input_slot).rows(taken[0]);
    Vec3<float> given = {0.0f, 0.0f, 0.0f};
    if (edges.own_exists) {
      given = mean_scale(a.vector_mean, edges.own_degree()) * Edges::position(g.grad_vector, edges.own.receiver);
    }
    const Mat3<float> vectors = basis_vectors(a, edges.x);
    const Vec3<float> vector = transposed(vectors, q), bounded = clamped(vector, a.clamp);
    const Vec3<float> weighed = tile.edge_weight(edges.own.edge) * given;
    // Where a component was cut its gradient is 0.
    const Vec3<float> by_vector = {bounded.x == vector.x ? weighed.x : 0.0f, bounded.y == vector.y ? weighed.y : 0.0f,
                                   bounded.z == vector.z ? weighed.z : 0.0f};
    Vec3<float> by_q = vectors * by_vector;
    if (a.tanh) by_q = {by_q.x * (1.0f - q.x * q.x), by_q.y * (1.0f - q.y * q.y), by_q.z * (1.0f - q.z * q.z)};
    const float own[kMaxAxes] = {by_q.x, by_q.y, by_q.z};
    float of_axis[2] = {0.0f, 0.0f};
#pragma unroll
    for (int axis = 0; axis < kMaxAxes; ++axis) {
      if (Edges::counts(lane())) numbers.at(axis, own_edge()) = own[axis];
      add_scalar(kHeadBias + axis, own[axis]);
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const float of_row = Edges::of_row(own[axis], h, lane());
        if (lane().t == axis) of_axis[h] = of_row;
      }
    }
    few_inputs<Kind>(grad, of_axis, tile.weights.template matrix<Place::kVectors>(a.layout.head_transposed), lane());
    const OwnGradients result = {position_vjp(a, edges.x, q, by_vector), edges.x.i - edges.x.j, dot(given, bounded)};
    block_barrier();
    add_head_gradients<Kind, Width>(of_head, numbers, 0, kMaxAxes, slot(input_slot), warp, lane());
    block_barrier();
    return result;
  }

  // Adds the own rows' numbers to one of the warp's sums.
  CLOF_DEVICE void add_scalar(int which, float own) {
    if (!g.with_scalars) return;
    float sum = Edges::counts(lane()) ? own : 0.0f;
    for (int mask = 1; mask < kWarp; mask *= 2) sum += shuffle_xor(sum, mask);
    if (lane().number == 0) own_scalars()[which] += sum;
  }

  // The gated message as an operand in its slot, and the slope of the activation that made it.
  CLOF_DEVICE void message_again(int last_slot, const float (&gate)[2], Rows<Width>& slope) {
    Rows<Width> gated[1];
    take_back(gated[0], slot(last_slot), warp, lane());
    activate<Function>(gated[0], slope, a.activation);
    // All lanes have taken back what they kept there.
    warp_barrier();
    if (!a.coordinate) return;
    if (a.gated) scale_rows(gated, gate);
    operand(kInputSlot).rows(OperandRows<Kind, Width>::of(gated[0]));
  }

  CLOF_DEVICE void message_gradient(const Edges& edges, float by_weight, Rows<Width>& grad) {
    const float own_scale = mean_scale(a.message_mean, edges.own_degree());
    Rows<Width> given;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float scale = Edges::of_row(own_scale, h, lane());
      const bool exists = edges.exists(h, lane());
      const int64_t receiver = Edges::of_row(edges.own.receiver, h, lane());
      const int edge = Edges::of_row(edges.own.edge, h, lane());
      load_narrow_row<Kind>(given, h, g.grad_message, receiver * a.hidden, a.hidden, lane());
      const float weighed = scale * tile.edge_weight(edge);
#pragma unroll
      for (int n = 0; n < Width / 8; ++n) {
#pragma unroll
        for (int k = 2 * h; k < 2 * h + 2; ++k) {
          grad.at[n][k] += exists ? weighed * given.at[n][k] : 0.0f;
          given.at[n][k] *= scale;
        }
      }
    }
    if (g.grad_edge_weight != nullptr) weight_gradient(edges, given, by_weight);
  }

  // `by_message` is the gradient by the messages' sums; the gated messages are in their slot.
  CLOF_DEVICE void weight_gradient(const Edges& edges, const Rows<Width>& by_message, float by_weight) {
    Rows<Width> gated;
    operand(kInputSlot).read_rows(gated);
    float by_row[2];
    dot_rows(by_message, gated, by_row);
    if (Edges::counts(lane()) && edges.own_exists) {
      store_number<Kind>(g.grad_edge_weight, edges.own.edge, by_weight + Edges::own_of(by_row, lane()));
    }
  }

  // Gradient by the message before its gate. The gated message is in the input slot.
  CLOF_DEVICE void gate_gradient(const float (&gate)[2], Rows<Width>& grad) {
    Rows<Width> gated;
    operand(kInputSlot).read_rows(gated);
    float by_gate[2], by_weight[2];
    dot_rows(grad, gated, by_gate);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      by_gate[h] *= 1.0f - gate[h];
      // Multiplied with the gated message it makes the gradient of the gate's weight; a closed gate adds nothing.
      by_weight[h] = gate[h] > 0.0f ? by_gate[h] / gate[h] : 0.0f;
    }
    const Columns<Kind, Width> weight = tile.vector(a.layout.gate);
#pragma unroll
    for (int n = 0; n < Width / 8; ++n) {
#pragma unroll
      for (int k = 0; k < 4; ++k) grad.at[n][k] = grad.at[n][k] * gate[k / 2] + by_gate[k / 2] * weight.at[n][k % 2];
    }
    add_scalar(kGateBias, Edges::own_of(by_gate, lane()));
    if (Edges::counts(lane())) numbers.at(EdgeNumbers::kGate, own_edge()) = Edges::own_of(by_weight, lane());
    block_barrier();
    add_head_gradients<Kind, Width>(of_head, EdgeNumbers{&numbers.at(EdgeNumbers::kGate, 0)}, kMaxAxes, 1,
                                    slot(kInputSlot), warp, lane());
    block_barrier();
  }

  CLOF_DEVICE void add_square(MatrixSums<kSquareBlocks>& sums, int bias, int input_slot) {
    add_gradients<Kind, Width>(sums, biases, slot(kGradientSlot), slot(input_slot), Width, warp, lane(),
                               Ones<Kind>(bias, lane()));
  }
  template <int Blocks> CLOF_DEVICE void write(const MatrixSums<Blocks>& sums, float* to, int columns) const {
    write_matrix<Kind>(sums, to, columns, g.first_chunk, warp, lane());
  }

  // From the first Linear's output to edge features, and to the weights that multiply them and r.
  CLOF_DEVICE void first_gradient(const Edges& edges, float own_radial, const Rows<Width> (&grad)[1]) {
    const OperandRows<Kind, Width> taken[1] = {OperandRows<Kind, Width>::of(grad[0])};
    operand(kGradientSlot).rows(taken[0]);
    if (Edges::counts(lane())) numbers.at(EdgeNumbers::kRadial, own_edge()) = own_radial;
    const int columns = a.layout.edge_columns;
    if (columns > 0) {
      const RowsInMemory features[1] = {tile.edge_features(edges, 0)};
      const LoadedUnits<Kind, 1> units(features, 0, lane());
      const OperandWriter<Kind, Width> to = operand(kInputSlot);
#pragma unroll
      for (int p = 0; p < kEdgeGradientColumns / kUnit<Kind>; ++p) {
#pragma unroll
        for (int h = 0; h < 2; ++h) to.group(h, p, operand_words<Kind>(units.words[p][0][h]));
      }
      edge_feature_gradient(edges, taken);
    }
    block_barrier();
    add_gradients<Kind, Width>(of_edge, biases, slot(kGradientSlot), slot(kInputSlot), columns, warp, lane(),
                               OnesAndRadial<Kind>{&numbers.at(EdgeNumbers::kRadial, 0), lane()});
    block_barrier();
  }

  CLOF_DEVICE void edge_feature_gradient(const Edges& edges, const OperandRows<Kind, Width> (&grad)[1]) {
    Rows<kEdgeGradientColumns> part[1];
    product<Kind>(part, grad, tile.weights.template matrix<Place::kEdges>(a.layout.edge_transposed), lane(), NoStart());
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int64_t row = int64_t(Edges::of_row(edges.own.edge, h, lane())) * a.edge_features;
      if (!edges.exists(h, lane())) continue;
      for_groups<Kind, kEdgeGradientColumns>(lane(), [&](int n, int column) {
        float values[Kind::kGroup];
#pragma unroll
        for (int k = 0; k < Kind::kGroup; ++k) values[k] = part[0].at[n + k / 2][2 * h + k % 2];
        store_group<Kind>(g.grad_edge_attr, row, column, a.edge_features, values);
      });
    }
  }

  CLOF_DEVICE void write_rows(const Edges& edges, const Rows<Width>& grad, Vec3<float> by_sender) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (!edges.exists(h, lane())) continue;
      float* row = g.rows + (edges.place - a.begin + lane().g + 8 * h) * kPartial<Width>;
#pragma unroll
      for (int n = 0; n < Width / 8; n += 2) {
        store_four(row + feature<Kind>(n, lane().t, 0), grad.at[n][2 * h], grad.at[n][2 * h + 1], grad.at[n + 1][2 * h],
                   grad.at[n + 1][2 * h + 1]);
      }
    }
    if (Edges::counts(lane()) && edges.own_exists) {
      float* row = g.rows + (edges.place - a.begin + Edges::own_row(lane())) * kPartial<Width>;
      store_four(row + Width, by_sender.x, by_sender.y, by_sender.z, 0.0f);
    }
  }

  // The block's sums, in the order of warps.
  CLOF_DEVICE void finish_scalars(float* to) {
    block_barrier();
    if (thread_index() >= kScalars) return;
    const float* of_warps = numbers.base + EdgeNumbers::kCount * kBlockEdges + thread_index();
    float sum = 0.0f;
    for (int k = 0; k < kBackwardWarps; ++k) sum += of_warps[k * kScalars];
    put(to + thread_index(), sum, g.first_chunk);
  }
};

template <class Kind, class Function, int Width> CLOF_DEVICE void backward(const EdgeBlockGradients& g) {
  const EdgeBlock& a = g.block;
  char* shared = shared_memory();
  copy_image(a.image, shared, BackwardPlace<Kind>::bytes(a.layout));
  block_barrier();
  const Lane lane;
  const int warps = num_blocks() * kBackwardWarps, first_warp = block_index() * kBackwardWarps;
  const int warp = first_warp + thread_index() / kWarp;
  const Range range = Range::of<kRows>(a, warp, warps);
  // The block goes on for as long as any of its warps.
  int longest = 0;
  for (int k = 0; k < kBackwardWarps; ++k) {
    const Range other = Range::of<kRows>(a, first_warp + k, warps);
    longest = other.end - other.begin > longest ? other.end - other.begin : longest;
  }
  ReceiverSums<Kind, Width> sums(a, range, warp, lane);
  const BackwardWrite write = {g.grad_parts, g.grad_pos, Width};
  BackwardTile<Kind, Function, Width> tile(g, shared);
  TileWalk<1> walk(a, range, lane);
#pragma unroll 1
  for (int done = 0; done < longest; done += kRows) {
    tile.run(walk.next(range.begin + done, a.edge_features * int(sizeof(typename Kind::Stored))), sums, write);
  }
  sums.close(write);
  tile.finish();
}

// What the edges of a launch of `warps` warps give to nodes in the end: one warp for each.
template <int Width> CLOF_DEVICE void sum_nodes(const EdgeBlockGradients& g, const SenderSums& senders, int warps) {
  const int64_t node = (int64_t(block_index()) * num_threads() + thread_index()) / kWarp;
  if (node >= g.block.graph.num_nodes) return;
  join_receiver<Width, kRows>(g.block, int(node), warps, Lane(), BackwardWrite{g.grad_parts, g.grad_pos, Width});
  sum_sender<Width>(senders, node);
}

}  // namespace clof::cuda
