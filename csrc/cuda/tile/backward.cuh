// The backward pass of the edge block. Each pair of a block's warps (pair.cuh) computes 16 edges again and then in
// reverse, and all of them together add the products that make gradients of weights. Of each edge remains a row in
// memory for its sender, see senders.cuh.
#pragma once

#include "pair.cuh"
#include "receivers.cuh"
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
template <class Kind> using BackwardPlace = Residence<Kind::kHalf, Kind::kHalf, true>;

// Slots of a block: two for inputs of activations, one for gradients, one for what they are multiplied with.
constexpr int kSlots = kMaxLayers + 2;
constexpr int kBackwardThreads = kBlockTiles * kPairThreads;
constexpr int kGradientSlot = kMaxLayers, kInputSlot = kMaxLayers + 1;

template <int Width> constexpr int kSlotBytes = kBlockEdges * Width * int(sizeof(float));

template <class Kind, int Width> int backward_shared_bytes(const Image& image) {
  return BackwardPlace<Kind>::bytes(image) + kSlots * kSlotBytes<Width> +
         (EdgeNumbers::kCount * kBlockEdges + kScalars * kBlockTiles) * int(sizeof(float));
}

struct BackwardWrite {
  float* grad_parts;
  float* grad_pos;
  int width;

  CLOF_DEVICE void features(int receiver, int, int first, float x, float y) const {
    float* at = grad_parts + 2 * int64_t(receiver) * width + first;
    at[0] += x;
    at[1] += y;
  }
  CLOF_DEVICE void vector(int receiver, int, Vec3<float> v) const {
    float* at = grad_pos + 3 * int64_t(receiver);
    at[0] += v.x;
    at[1] += v.y;
    at[2] += v.z;
  }
};

// Gradients by an edge's two positions, given that by its vector.
CLOF_DEVICE Ends<float> position_vjp(const EdgeBlock& a, const Ends<float>& x, Vec3<float> q, Vec3<float> by_vector) {
  if (a.axes == 3) {
    return edge_frame_vjp(frame_parts(a.mode, x), x, {q.x * by_vector, q.y * by_vector, q.z * by_vector});
  }
  const Vec3<float> d = x.i - x.j, by_d = axis_vjp(axis_scale(a.mode, d, 0.0f), d, q.x * by_vector);
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
  using Pair = PairTile<Kind, Width, 1, Place>;
  using Edges = TileEdges<1>;
  static constexpr int kOwn = Pair::kOwn;
  // Edge features come in one piece.
  static_assert(kEdgeGradientColumns <= 2 * kUnit<Kind> && kEdgeGradientColumns <= Width, "units of one load");

  CLOF_DEVICE BackwardTile(const EdgeBlockGradients& gradients, char* shared)
      : g(gradients),
        a(gradients.block),
        slots(shared + Place::bytes(a.layout)),
        pair(Pair::of(a, {a.layout, shared, a.image}, slot(a.coordinate ? kGradientSlot : kInputSlot))),
        numbers{reinterpret_cast<float*>(slots + kSlots * kSlotBytes<Width>)} {
#pragma unroll
    for (auto& layer : of_layers) layer.clear();
    of_coordinate.clear();
    of_edge.clear();
    of_column.clear();
#pragma unroll
    for (int k = 0; k < 4; ++k) of_head[k] = 0.0f;
    if (half().first() && lane().number < kScalars) own_scalars()[lane().number] = 0.0f;
  }

  // A tile of every pair of the block, perhaps an empty one. All warps of the block call it together. What registers do
  // not hold waits in slots: z, the argument of the last activation, in one that is free until it is needed again.
  template <class Sums> CLOF_DEVICE void run(const Edges& edges, Sums& sums, const BackwardWrite& write) {
    const float own_radial = edges.radial();
    // The other is on the way to the coefficients, and holds what these are made of.
    const int last_slot = a.coordinate ? kInputSlot : kGradientSlot;
    float gate[2] = {1.0f, 1.0f};
    OwnGradients own;
    Rows<kOwn> grad[1], slope;
    // Both have read what the last tile left in the gradients' slot.
    half().barrier();
    {
      Rows<kOwn> gated[1];
      forward(edges, own_radial, gated);
      keep_own(gated[0], last_slot);
      activate<Function>(gated[0], a.activation);
      if (a.gated) {
        pair.gates(gated, gate);
        scale_rows(gated, gate);
      }
      if (a.coordinate) {
        Rows<kOwn> z[1];
        pair.linear(gated, a.layout.coordinate, a.layout.biases[kMaxLayers], z);
        activate<Function>(z[0], slope, a.activation);
        own = head_gradient(edges, z, grad[0]);
        scale(grad[0], slope);
      } else {
        own = head_gradient(edges, gated, grad[0]);
      }
    }
    message_again(last_slot, gate, slope);
    if (a.coordinate) {
      own_operand(kGradientSlot).write(grad[0]);
      block_barrier();
      add_square(of_coordinate, kInputSlot, kCoordinateQuarter);
      back_through(a.layout.coordinate_transposed, grad);
      block_barrier();
    }
    message_gradient(edges, own.by_weight, grad[0]);
    if (a.gated) gate_gradient(gate, grad[0]);
    scale(grad[0], slope);
    // edge_mlp in reverse.
#pragma unroll
    for (int k = kMaxLayers - 1; k >= 0; --k) {
      if (k < a.layers) {
        Rows<kOwn> z;
        take_back_own(z, k);
        activate<Function>(z, slope, a.activation);
        // Both have taken back what they kept there.
        half().barrier();
        own_operand(kGradientSlot).write(grad[0]);
        own_operand(k).write(z);
        block_barrier();
        add_square(of_layers[k], k, k);
        back_through(a.layout.layers_transposed[k], grad);
        scale(grad[0], slope);
        block_barrier();
      }
    }
    first_gradient(edges, own_radial, grad);
    float by_radial[1][2];
    row_products<Kind, kOwn>(grad, pair.vector(a.layout.radial), by_radial[0]);
    pair.add_other(by_radial, slot(kGradientSlot));
    const Vec3<float> along = (2.0f * Edges::own_of(by_radial[0], lane())) * own.d;
    write_rows(edges, grad[0], own.by_pos.j - along);
    sums.add(edges, grad, own.by_pos.i + along, write);
  }

  // Writes the sums of weights' gradients.
  CLOF_DEVICE void finish() {
    float* to = g.sums + int64_t(block_index()) * g.places.total;
    const int warp = half().warp();
#pragma unroll
    for (int k = 0; k < kMaxLayers; ++k) {
      write_matrix(of_layers[k], to + g.places.layers[k], Width, g.first_chunk, warp, lane());
    }
    write_matrix(of_coordinate, to + g.places.coordinate, Width, g.first_chunk, warp, lane());
    write_matrix(of_edge, to + g.places.edge, g.places.edge_columns, g.first_chunk, warp, lane());
    // Quarters in the order of the biases in SumPlaces.
    write_column(of_column, to + g.places.biases[warp % kQuarters], 0, g.first_chunk, warp, lane());
    if (warp % kQuarters == kFirstQuarter) {
      write_column(of_column, to + g.places.radial, 1, g.first_chunk, warp, lane());
    }
    if (warp < Width / 8 && lane().g < SumPlaces::kHeadRows) {
      float* head = to + g.places.head + lane().g * Width + 8 * warp + 2 * lane().t;
      put(head, of_head[0], g.first_chunk);
      put(head + 1, of_head[1], g.first_chunk);
    }
    finish_scalars(to + g.places.scalars);
  }

 private:
  const EdgeBlockGradients& g;
  const EdgeBlock& a;
  char* const slots;
  const Pair pair;
  const EdgeNumbers numbers;
  // Whose bias the warps of a quarter sum; those of the first layers have their numbers.
  static constexpr int kCoordinateQuarter = SumPlaces::kCoordinateBias, kFirstQuarter = SumPlaces::kFirstBias;
  static_assert(kFirstQuarter + 1 == kQuarters, "a quarter for each bias");
  MatrixSums<Width / 8 / kQuarters> of_layers[kMaxLayers], of_coordinate;
  MatrixSums<kEdgeGradientColumns / 8 / kQuarters> of_edge;
  ColumnSums of_column;
  float of_head[4];

  CLOF_DEVICE const Lane& lane() const { return pair.lane(); }
  CLOF_DEVICE const Half& half() const { return pair.half; }
  CLOF_DEVICE char* slot(int k) const { return slots + k * kSlotBytes<Width>; }
  CLOF_DEVICE OperandRows<Kind, Width, kOwn> own_operand(int k) const { return pair.own_operand(slot(k)); }
  CLOF_DEVICE void keep_own(const Rows<kOwn>& rows, int k) const {
    keep(rows, slot(k), half().warp(), pair.fresh_lane());
  }
  CLOF_DEVICE void take_back_own(Rows<kOwn>& rows, int k) const {
    take_back(rows, slot(k), half().warp(), pair.fresh_lane());
  }
  // The pair's sums for the biases of the gate and of the head.
  CLOF_DEVICE float* own_scalars() const {
    return numbers.base + EdgeNumbers::kCount * kBlockEdges + kScalars * half().pair;
  }
  // Whether this lane is the one of the pair that counts for its own row.
  CLOF_DEVICE bool counts() const { return half().first() && Edges::counts(lane()); }
  CLOF_DEVICE int own_edge() const { return kRows * half().pair + Edges::own_row(lane()); }

  CLOF_DEVICE void forward(const Edges& edges, float own_radial, Rows<kOwn> (&z)[1]) {
    pair.first_linear(edges, own_radial, z);
#pragma unroll
    for (int k = 0; k < kMaxLayers; ++k) {
      if (k < a.layers) {
        keep_own(z[0], k);
        activate<Function>(z[0], a.activation);
        pair.linear(z, a.layout.layers[k], a.layout.biases[k], z);
      }
    }
  }

  // From the coefficients, made of `z`, to the positions and back to z, which goes to a slot.
  CLOF_DEVICE OwnGradients head_gradient(const Edges& edges, const Rows<kOwn> (&z)[1], Rows<kOwn>& grad) {
    const Vec3<float> q = pair.coefficients(z);
    // Visible at the block's barrier.
    half().barrier();
    pair.own_operand(pair.way).write(z[0]);
    Vec3<float> given = {0.0f, 0.0f, 0.0f};
    if (edges.own_exists) {
      given = mean_scale(a.vector_mean, edges.own_degree(a)) * Edges::position(g.grad_vector, edges.own.receiver);
    }
    // Read again: they cost more to keep.
    const Ends<float> x = Edges::ends(a, edges.own);
    const Mat3<float> vectors = basis_vectors(a, x);
    const Vec3<float> vector = transposed(vectors, q), bounded = clamped(vector, a.clamp);
    const Vec3<float> weighed = pair.tile.edge_weight(edges.own.edge) * given;
    // Where a component was cut its gradient is 0.
    const Vec3<float> by_vector = {bounded.x == vector.x ? weighed.x : 0.0f, bounded.y == vector.y ? weighed.y : 0.0f,
                                   bounded.z == vector.z ? weighed.z : 0.0f};
    Vec3<float> by_q = vectors * by_vector;
    if (a.tanh) by_q = {by_q.x * (1.0f - q.x * q.x), by_q.y * (1.0f - q.y * q.y), by_q.z * (1.0f - q.z * q.z)};
    const float own[kMaxAxes] = {by_q.x, by_q.y, by_q.z};
    grad.fill(0.0f);
#pragma unroll
    for (int axis = 0; axis < kMaxAxes; ++axis) {
      if (counts()) numbers.at(axis, own_edge()) = own[axis];
      add_scalar(kHeadBias + axis, own[axis]);
      if (axis >= a.axes) continue;
      const Columns<Kind, kOwn> head = pair.head(axis);
      const float by_row[2] = {Edges::of_row(own[axis], 0, lane()), Edges::of_row(own[axis], 1, lane())};
#pragma unroll
      for (int n = 0; n < kOwn / 8; ++n) {
#pragma unroll
        for (int k = 0; k < 4; ++k) grad.at[n][k] += by_row[k / 2] * head.at[n][k % 2];
      }
    }
    const OwnGradients result = {position_vjp(a, x, q, by_vector), x.i - x.j, dot(given, bounded)};
    block_barrier();
    add_head_gradients<Kind, Width>(of_head, numbers, 0, kMaxAxes, pair.way, half().warp(), lane());
    block_barrier();
    return result;
  }

  // Adds the own rows' numbers to one of the pair's sums.
  CLOF_DEVICE void add_scalar(int which, float own) {
    if (!g.with_scalars || !half().first()) return;
    float sum = Edges::counts(lane()) ? own : 0.0f;
    for (int mask = 1; mask < kWarp; mask *= 2) sum += shuffle_xor(sum, mask);
    if (lane().number == 0) own_scalars()[which] += sum;
  }

  // The gated message as an operand in its slot, and the slope of the activation that made it.
  CLOF_DEVICE void message_again(int last_slot, const float (&gate)[2], Rows<kOwn>& slope) {
    Rows<kOwn> gated[1];
    take_back_own(gated[0], last_slot);
    activate<Function>(gated[0], slope, a.activation);
    if (!a.coordinate) return;
    if (a.gated) scale_rows(gated, gate);
    half().barrier();
    own_operand(kInputSlot).write(gated[0]);
  }

  CLOF_DEVICE void message_gradient(const Edges& edges, float by_weight, Rows<kOwn>& grad) {
    const float own_scale = mean_scale(a.message_mean, edges.own_degree(a));
    Rows<kOwn> given;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float scale = Edges::of_row(own_scale, h, lane());
      const bool exists = edges.exists(h, lane());
      const int64_t receiver = Edges::of_row(edges.own.receiver, h, lane());
      const int edge = Edges::of_row(edges.own.edge, h, lane());
      load_narrow_row<Kind>(given, h, g.grad_message, receiver * a.hidden, a.hidden, a.hidden == Width, lane(),
                            pair.first_feature());
      const float weighed = scale * pair.tile.edge_weight(edge);
#pragma unroll
      for (int n = 0; n < kOwn / 8; ++n) {
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
  CLOF_DEVICE void weight_gradient(const Edges& edges, const Rows<kOwn>& by_message, float by_weight) {
    Rows<kOwn> gated;
    own_operand(kInputSlot).read(gated);
    float by_row[1][2];
    pair.dot_rows(by_message, gated, by_row, slot(kGradientSlot));
    if (counts() && edges.own_exists) {
      store_number<Kind>(g.grad_edge_weight, edges.own.edge, by_weight + Edges::own_of(by_row[0], lane()));
    }
  }

  // Gradient by the message before its gate. The gated message is in the input slot.
  CLOF_DEVICE void gate_gradient(const float (&gate)[2], Rows<kOwn>& grad) {
    Rows<kOwn> gated;
    own_operand(kInputSlot).read(gated);
    float by_gate[1][2], by_weight[2];
    pair.dot_rows(grad, gated, by_gate, slot(kGradientSlot));
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      by_gate[0][h] *= 1.0f - gate[h];
      // Multiplied with the gated message it makes the gradient of the gate's weight; a closed gate adds nothing.
      by_weight[h] = gate[h] > 0.0f ? by_gate[0][h] / gate[h] : 0.0f;
    }
    const Columns<Kind, kOwn> weight = pair.vector(a.layout.gate);
#pragma unroll
    for (int n = 0; n < kOwn / 8; ++n) {
#pragma unroll
      for (int k = 0; k < 4; ++k) grad.at[n][k] = grad.at[n][k] * gate[k / 2] + by_gate[0][k / 2] * weight.at[n][k % 2];
    }
    add_scalar(kGateBias, Edges::own_of(by_gate[0], lane()));
    if (counts()) numbers.at(EdgeNumbers::kGate, own_edge()) = Edges::own_of(by_weight, lane());
    block_barrier();
    add_head_gradients<Kind, Width>(of_head, EdgeNumbers{&numbers.at(EdgeNumbers::kGate, 0)}, kMaxAxes, 1,
                                    slot(kInputSlot), half().warp(), lane());
    block_barrier();
  }

  CLOF_DEVICE void add_square(MatrixSums<Width / 8 / kQuarters>& sums, int input_slot, int quarter) {
    const int warp = half().warp();
    add_gradients<Kind, Width>(sums, of_column, slot(kGradientSlot), slot(input_slot), Width, warp, lane(),
                               warp % kQuarters == quarter, Ones<Kind>(lane()));
  }

  // The gradient lies in its slot.
  CLOF_DEVICE void back_through(Matrix transposed, Rows<kOwn> (&grad)[1]) {
    pair.square_product(grad, slot(kGradientSlot), transposed, NoStart());
  }

  // From the first Linear's output to edge features, and to the weights that multiply them and r.
  CLOF_DEVICE void first_gradient(const Edges& edges, float own_radial, const Rows<kOwn> (&grad)[1]) {
    // Both have read what they need of the slots.
    half().barrier();
    own_operand(kGradientSlot).write(grad[0]);
    if (counts()) numbers.at(EdgeNumbers::kRadial, own_edge()) = own_radial;
    const int columns = a.layout.edge_columns;
    if (columns > 0) {
      const RowsInMemory features = pair.tile.edge_features(edges, 0);
      const OperandRows<Kind, Width> to = pair.operand(slot(kInputSlot));
#pragma unroll
      for (int p = 0; p < kEdgeGradientColumns / kUnit<Kind>; ++p) {
        if (p != half().half) continue;
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          to.group(h, p) =
              operand_words<Kind>(load_group<Kind>(features, h, p * kUnit<Kind> + Kind::kGroup * lane().t));
        }
      }
    }
    block_barrier();
    if (columns > 0) edge_feature_gradient(edges);
    const int warp = half().warp();
    add_gradients<Kind, Width>(of_edge, of_column, slot(kGradientSlot), slot(kInputSlot), columns, warp, lane(),
                               warp % kQuarters == kFirstQuarter,
                               OnesAnd<Kind>{&numbers.at(EdgeNumbers::kRadial, 0), lane()});
    block_barrier();
  }

  // Of the columns' blocks of eight each half has every second pair.
  CLOF_DEVICE void edge_feature_gradient(const Edges& edges) {
    constexpr int kOwnColumns = kEdgeGradientColumns / 2;
    const int first_block = kOwnColumns / 8 * half().half;
    Rows<kOwnColumns> part[1];
    const OperandRows<Kind, Width> rows[1] = {pair.operand(slot(kGradientSlot))};
    const auto* weights = pair.tile.weights.template of_edges<Place::kEdges>(a.layout.edge_transposed);
    product_of<Kind, Width>(part, rows, weights + feature<Kind>(first_block, 0, 0) * Width, lane(), NoStart());
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int64_t row = int64_t(Edges::of_row(edges.own.edge, h, lane())) * a.edge_features;
      if (!edges.exists(h, lane())) continue;
      const float values[4] = {part[0].at[0][2 * h], part[0].at[0][2 * h + 1], part[0].at[1][2 * h],
                               part[0].at[1][2 * h + 1]};
      store_four_columns<Kind>(g.grad_edge_attr, row, feature<Kind>(first_block, lane().t, 0), a.edge_features, values);
    }
  }

  CLOF_DEVICE void write_rows(const Edges& edges, const Rows<kOwn>& grad, Vec3<float> by_sender) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (!edges.exists(h, lane())) continue;
      float* row = g.rows + (edges.place - a.begin + lane().g + 8 * h) * kPartial<Width> + pair.first_feature();
#pragma unroll
      for (int n = 0; n < kOwn / 8; n += 2) {
        store_four(row + feature<Kind>(n, lane().t, 0), grad.at[n][2 * h], grad.at[n][2 * h + 1], grad.at[n + 1][2 * h],
                   grad.at[n + 1][2 * h + 1]);
      }
    }
    if (counts() && edges.own_exists) {
      float* row = g.rows + (edges.place - a.begin + Edges::own_row(lane())) * kPartial<Width>;
      store_four(row + Width, by_sender.x, by_sender.y, by_sender.z, 0.0f);
    }
  }

  // The block's sums, in the order of pairs.
  CLOF_DEVICE void finish_scalars(float* to) {
    block_barrier();
    if (thread_index() >= kScalars) return;
    const float* of_pairs = numbers.base + EdgeNumbers::kCount * kBlockEdges + thread_index();
    float sum = 0.0f;
    for (int k = 0; k < kBlockTiles; ++k) sum += of_pairs[k * kScalars];
    put(to + thread_index(), sum, g.first_chunk);
  }
};

template <class Kind, class Function, int Width> CLOF_DEVICE void backward(const EdgeBlockGradients& g) {
  const EdgeBlock& a = g.block;
  char* shared = shared_memory();
  copy_image(a.image, shared, BackwardPlace<Kind>::bytes(a.layout));
  block_barrier();
  const Lane lane;
  const Half half;
  // Ranges are those of pairs.
  const int64_t pairs = int64_t(num_blocks()) * kBlockTiles, first_pair = int64_t(block_index()) * kBlockTiles;
  const Range range = Range::of<kRows>(a, first_pair + half.pair, pairs);
  // The block goes on for as long as any of its pairs.
  int64_t longest = 0;
  for (int k = 0; k < kBlockTiles; ++k) {
    const Range other = Range::of<kRows>(a, first_pair + k, pairs);
    longest = other.end - other.begin > longest ? other.end - other.begin : longest;
  }
  ReceiverSums<Kind, Width, Width / 2> sums(a, range, first_pair + half.pair, lane, Width / 2 * half.half);
  const BackwardWrite write = {g.grad_parts, g.grad_pos, Width};
  BackwardTile<Kind, Function, Width> tile(g, shared);
  TileWalk<1> walk(a, range, lane);
#pragma unroll 1
  for (int64_t done = 0; done < longest; done += kRows) {
    const int64_t place = range.begin + done;
    tile.run(walk.next(place, a.edge_features * int(sizeof(typename Kind::Stored))), sums, write);
  }
  sums.close(write);
  tile.finish();
}

// A warp for each of the pairs.
template <int Width> CLOF_DEVICE void backward_join(const EdgeBlockGradients& g, int64_t pairs) {
  const int64_t pair = (int64_t(block_index()) * num_threads() + thread_index()) / kWarp;
  if (pair < pairs) join<Width, kRows>(g.block, pair, pairs, Lane(), BackwardWrite{g.grad_parts, g.grad_pos, Width});
}

}  // namespace clof::cuda
