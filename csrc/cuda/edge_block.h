// How a call of frame_message becomes the arguments of its kernels: sizes, memory, the image of weights. No CUDA here,
// so that tests can run the kernels without a GPU.
#pragma once

#include "tile/backward.cuh"
#include "tile/forward.cuh"
#include "tile/prepare.cuh"

namespace clof::cuda {

// Hidden features are padded to one of these.
constexpr int kNarrow = 64, kWide = 128;

inline int padded_hidden(const FrameMessageProblem& p) { return p.hidden <= kNarrow ? kNarrow : kWide; }
inline int number_bytes(const FrameMessageProblem& p) { return p.storage == Storage::float32 ? 4 : 2; }

inline Image image_of(const FrameMessageProblem& p, bool backward) {
  return make_image(padded_hidden(p), number_bytes(p), int(p.edge_features), p.num_edge_linears - 1,
                    p.num_coord_linears == 2, backward);
}

// Blocks of threads that walk over edges: as many as the GPU holds at a time, but none without any.
inline int64_t num_blocks_for(int64_t edges, int64_t most, int block_edges) {
  const int64_t blocks = (edges + block_edges - 1) / block_edges;
  return blocks < most ? blocks : most;
}

// Pieces of one allocation, each at a multiple of 256 bytes.
class Pieces {
 public:
  int64_t add(int64_t bytes) {
    const int64_t place = total_;
    total_ += (bytes + 255) / 256 * 256;
    return place;
  }
  int64_t total() const { return total_; }

 private:
  int64_t total_ = 0;
};

// Whether what the first Linear makes of receivers lies where their messages will: rows of both are as wide. A receiver
// that two warps share has its message from the kernel that joins them, when all rows have been read.
inline bool in_place(const FrameMessageProblem& p) { return p.hidden == padded_hidden(p); }

struct ForwardMemory {
  int64_t image, receivers, senders, partial, total;

  ForwardMemory(const FrameMessageProblem& p, int64_t warps) {
    const int width = padded_hidden(p);
    Pieces pieces;
    const int64_t table = p.graph.num_nodes * width * number_bytes(p);
    image = pieces.add(image_of(p, false).bytes);
    receivers = pieces.add(in_place(p) ? 0 : table);
    senders = pieces.add(table);
    partial = pieces.add(warps * 2 * (width + 4) * int64_t(sizeof(float)));
    total = pieces.total();
  }
};

// Rows of edges wait for their senders in so many bytes: chunks of edges are worked on one after the other.
constexpr int64_t kRowBytes = int64_t(1) << 27;

// As many as fit and give all of `most_blocks` blocks of threads the same number of tiles.
inline int64_t chunk_edges(const FrameMessageProblem& p, int64_t most_blocks, int64_t row_bytes = kRowBytes) {
  const int64_t unit = most_blocks * kBlockEdges;
  const int64_t units = row_bytes / ((padded_hidden(p) + 4) * int64_t(sizeof(float))) / unit;
  const int64_t most = (units > 1 ? units : 1) * unit;
  return p.graph.num_edges < most ? p.graph.num_edges : most;
}

struct BackwardMemory {
  int64_t image, receivers, senders, partial, rows, place_of, range, sums, total;

  BackwardMemory(const FrameMessageProblem& p, int64_t blocks, int64_t chunk) {
    const int64_t width = padded_hidden(p), number = sizeof(float);
    const Image layout = image_of(p, true);
    Pieces pieces;
    image = pieces.add(layout.bytes);
    receivers = pieces.add(p.graph.num_nodes * width * number_bytes(p));
    senders = pieces.add(p.graph.num_nodes * width * number_bytes(p));
    partial = pieces.add(blocks * kBackwardWarps * 2 * (width + 4) * number);
    rows = pieces.add(chunk * (width + 4) * number);
    place_of = pieces.add(p.graph.num_edges * int64_t(sizeof(int32_t)));
    range = pieces.add(p.graph.num_nodes * 2 * int64_t(sizeof(int32_t)));
    sums = pieces.add(blocks * SumPlaces::of(layout).total * number);
    total = pieces.total();
  }
};

inline EdgeBlock edge_block_of(const FrameMessageProblem& p, const Image& image) {
  EdgeBlock a = {};
  a.graph = p.graph;
  a.mode = p.mode;
  a.activation = p.activation;
  a.axes = p.num_axes;
  a.tanh = p.tanh;
  a.message_mean = p.message_mean;
  a.vector_mean = p.vector_mean;
  a.gated = p.att_mlp.weight != nullptr;
  a.clamp = float(p.clamp);
  a.hidden = int(p.hidden);
  a.edge_features = int(p.edge_features);
  a.layers = p.num_edge_linears - 1;
  a.coordinate = p.num_coord_linears == 2;
  a.begin = 0;
  a.end = int(p.graph.num_edges);
  a.pos = static_cast<const float*>(p.pos);
  a.edge_attr = p.edge_attr;
  a.edge_weight = p.edge_weight;
  a.layout = image;
  a.message = p.message;
  a.vector = static_cast<float*>(p.vector);
  return a;
}

inline EdgeBlock forward_block_of(const FrameMessageProblem& p, const Image& image, char* memory,
                                  const ForwardMemory& places) {
  EdgeBlock a = edge_block_of(p, image);
  a.image = memory + places.image;
  a.receivers = in_place(p) ? p.message : memory + places.receivers;
  a.senders = memory + places.senders;
  a.partial = reinterpret_cast<float*>(memory + places.partial);
  return a;
}

// Whether gradients of single numbers are wanted: the biases of the gate and of the head.
inline bool has_scalars(const FrameMessageProblem& p) {
  return p.att_mlp.weight != nullptr || p.coord_mlp[p.num_coord_linears - 1].bias != nullptr;
}

inline EdgeBlockGradients gradients_of(const FrameMessageProblem& p, const Image& image, char* memory,
                                       const BackwardMemory& places, float* grad_parts) {
  EdgeBlockGradients g = {};
  g.block = edge_block_of(p, image);
  g.block.image = memory + places.image;
  g.block.receivers = memory + places.receivers;
  g.block.senders = memory + places.senders;
  g.block.partial = reinterpret_cast<float*>(memory + places.partial);
  g.grad_message = p.grad_message;
  g.grad_vector = static_cast<const float*>(p.grad_vector);
  g.grad_parts = grad_parts;
  g.grad_pos = static_cast<float*>(p.grad_pos);
  g.grad_edge_attr = p.grad_edge_attr;
  g.grad_edge_weight = p.grad_edge_weight;
  g.rows = reinterpret_cast<float*>(memory + places.rows);
  g.sums = reinterpret_cast<float*>(memory + places.sums);
  g.places = SumPlaces::of(image);
  g.with_scalars = has_scalars(p);
  return g;
}

inline SenderSums senders_of(const EdgeBlockGradients& g, char* memory, const BackwardMemory& places) {
  SenderSums senders = {};
  senders.graph = g.block.graph;
  senders.place_of = reinterpret_cast<int32_t*>(memory + places.place_of);
  senders.range = reinterpret_cast<int32_t*>(memory + places.range);
  senders.rows = g.rows;
  senders.grad_parts = g.grad_parts;
  senders.grad_pos = g.grad_pos;
  return senders;
}

// The edges from `begin` on, as many as there are in a chunk.
inline void take_chunk(EdgeBlockGradients& g, SenderSums& senders, int64_t begin, int64_t chunk) {
  const int64_t edges = g.block.graph.num_edges, end = begin + chunk < edges ? begin + chunk : edges;
  g.first_chunk = begin == 0;
  g.block.begin = senders.begin = int(begin);
  g.block.end = senders.end = int(end);
}

inline int64_t first_leading(const FrameMessageProblem& p) { return 2 * p.node_features + 1 + p.edge_features; }

inline NodeLinear node_linear_of(const FrameMessageProblem& p, void* receivers, void* senders) {
  NodeLinear a = {};
  a.h = p.h;
  a.nodes = p.graph.num_nodes;
  a.features = int(p.node_features);
  a.weight = p.edge_mlp[0].weight;
  a.leading = first_leading(p);
  a.bias = p.edge_mlp[0].bias;
  a.hidden = int(p.hidden);
  a.receivers = receivers;
  a.senders = senders;
  return a;
}

// Collects what the image is made of.
class Packer {
 public:
  Packer(const FrameMessageProblem& p, const Image& image, char* memory) : p_(p), bytes_(number_bytes(p)) {
    jobs_.image = memory;
    const int hidden = int(p.hidden), layers = p.num_edge_linears - 1;
    for (int k = 0; k < layers; ++k) {
      square(p.edge_mlp[k + 1], image.layers[k], image.layers_transposed[k]);
      vector(p.edge_mlp[k + 1].bias, 1, hidden, image.width, image.biases[k]);
    }
    const LinearArguments& head = p.coord_mlp[p.num_coord_linears - 1];
    if (p.num_coord_linears == 2) {
      square(p.coord_mlp[0], image.coordinate, image.coordinate_transposed);
      vector(p.coord_mlp[0].bias, 1, hidden, image.width, image.biases[kMaxLayers]);
    }
    const int64_t leading = first_leading(p);
    vector(element(p.edge_mlp[0].weight, 2 * p.node_features), leading, hidden, image.width, image.radial);
    vector(p.att_mlp.weight, 1, hidden, image.width, image.gate);
    matrix(head.weight, hidden, p.num_axes, hidden, false, image.head);
    if (image.head_transposed.rows) {
      matrix(head.weight, hidden, p.num_axes, hidden, true, image.head_transposed, image.head_transposed.columns / 4);
    }
    vector(p.att_mlp.bias, 1, 1, 1, image.scalars);
    vector(head.bias, 1, p.num_axes, kMaxAxes, image.scalars + int(sizeof(float)) * kHeadBias);
    if (p.edge_features > 0) {
      const void* columns = element(p.edge_mlp[0].weight, 2 * p.node_features + 1);
      matrix(columns, leading, hidden, int(p.edge_features), false, image.edge);
      if (image.edge_transposed.rows) {
        matrix(columns, leading, hidden, int(p.edge_features), true, image.edge_transposed);
      }
    }
  }

  const PackJobs& jobs() const { return jobs_; }

 private:
  const FrameMessageProblem& p_;
  int bytes_;
  PackJobs jobs_ = {};

  const void* element(const void* base, int64_t index) const { return static_cast<const char*>(base) + index * bytes_; }
  void square(const LinearArguments& linear, Matrix place, Matrix transposed) {
    const int hidden = int(p_.hidden);
    matrix(linear.weight, hidden, hidden, hidden, false, place);
    if (transposed.rows) matrix(linear.weight, hidden, hidden, hidden, true, transposed);
  }
  void matrix(const void* weight, int64_t leading, int results, int inputs, bool transposed, Matrix place,
              int spread = 1) {
    jobs_.matrices[jobs_.num_matrices++] = {weight,     leading, results, inputs, padded_hidden(p_),
                                            transposed, spread,  place};
  }
  void vector(const void* from, int64_t stride, int count, int padded, int offset) {
    jobs_.vectors[jobs_.num_vectors++] = {from, stride, count, padded, offset};
  }
};

// Parts of the gradients of weights.
class Finisher {
 public:
  // `node_gradient` is (2 Width, F): the gradient of the first Linear's columns for nodes' features.
  Finisher(const FrameMessageProblem& p, const SumPlaces& places, const float* sums, int64_t num_sums,
           const void* node_gradient)
      : places_(places), sums_(sums), bytes_(number_bytes(p)) {
    jobs_.num_sums = int(num_sums);
    const int hidden = int(p.hidden), width = padded_hidden(p), features = int(p.node_features);
    const int64_t leading = first_leading(p);
    char* first = static_cast<char*>(p.edge_mlp[0].grad_weight);
    if (features > 0) {
      for (int role = 0; role < 2; ++role) {
        const auto* from = static_cast<const char*>(node_gradient) + int64_t(role) * width * features * bytes_;
        jobs_.parts[jobs_.num_parts++] = {
            first + int64_t(role) * features * bytes_, leading, hidden, features, from, features, 1, 0};
      }
    }
    add(first + 2 * int64_t(features) * bytes_, leading, hidden, 1, places.radial, 1, 0);
    if (p.edge_features > 0) {
      add(first + (2 * int64_t(features) + 1) * bytes_, leading, hidden, int(p.edge_features), places.edge,
          places.edge_columns, 1);
    }
    bias(p.edge_mlp[0].grad_bias, hidden, places.biases[SumPlaces::kFirstBias]);
    for (int k = 1; k < p.num_edge_linears; ++k) {
      add(p.edge_mlp[k].grad_weight, hidden, hidden, hidden, places.layers[k - 1], width, 1);
      bias(p.edge_mlp[k].grad_bias, hidden, places.biases[k - 1]);
    }
    if (p.att_mlp.grad_weight != nullptr) {
      add(p.att_mlp.grad_weight, hidden, 1, hidden, places.head + kMaxAxes * width, width, 1);
      bias(p.att_mlp.grad_bias, 1, places.scalars + kGateBias);
    }
    if (p.num_coord_linears == 2) {
      add(p.coord_mlp[0].grad_weight, hidden, hidden, hidden, places.coordinate, width, 1);
      bias(p.coord_mlp[0].grad_bias, hidden, places.biases[SumPlaces::kCoordinateBias]);
    }
    const LinearArguments& head = p.coord_mlp[p.num_coord_linears - 1];
    add(head.grad_weight, hidden, p.num_axes, hidden, places.head, width, 1);
    bias(head.grad_bias, p.num_axes, places.scalars + kHeadBias);
  }

  const FinishJobs& jobs() const { return jobs_; }

 private:
  const SumPlaces& places_;
  const float* sums_;
  int bytes_;
  FinishJobs jobs_ = {};

  void add(void* to, int64_t leading, int rows, int columns, int place, int64_t row_stride, int64_t column_stride) {
    jobs_.parts[jobs_.num_parts++] = {to,         leading,       rows,         columns, sums_ + place,
                                      row_stride, column_stride, places_.total};
  }
  void bias(void* to, int count, int place) {
    if (to != nullptr) add(to, count, 1, count, place, 0, 1);
  }
};

inline StackedWeights stacked_weights_of(const FrameMessageProblem& p, void* to) {
  return {p.edge_mlp[0].weight, first_leading(p), int(p.hidden), padded_hidden(p), int(p.node_features), to};
}

// What `prepare` does for a pass in its memory.
inline PrepareJobs forward_preparation(const FrameMessageProblem& p, const Image& layout, char* memory,
                                       const ForwardMemory& places) {
  PrepareJobs jobs = {};
  jobs.pack = Packer(p, layout, memory + places.image).jobs();
  jobs.nodes = node_linear_of(p, in_place(p) ? p.message : memory + places.receivers, memory + places.senders);
  if (in_place(p)) jobs.nodes.receiver_start = p.graph.receiver_start;
  else jobs.nodes.cleared[0] = {p.message, p.hidden * number_bytes(p)};
  jobs.nodes.cleared[1] = {p.vector, 3 * int64_t(sizeof(float))};
  return jobs;
}

// Blocks of threads for so many numbers, few enough not to be felt.
inline int blocks_for_numbers(int64_t numbers) {
  constexpr int64_t kThreads = kBackwardWarps * kWarp, kMost = 1024;
  const int64_t blocks = (numbers + kThreads - 1) / kThreads;
  return int(blocks < kMost ? blocks : kMost);
}

inline PrepareJobs backward_preparation(const FrameMessageProblem& p, const Image& layout, char* memory,
                                        const BackwardMemory& places, const StackedWeights& stacked,
                                        const SenderSums& senders) {
  PrepareJobs jobs = {};
  jobs.pack = Packer(p, layout, memory + places.image).jobs();
  jobs.nodes = node_linear_of(p, memory + places.receivers, memory + places.senders);
  jobs.nodes.cleared[0] = {senders.grad_parts, 2 * layout.width * int64_t(sizeof(float))};
  jobs.nodes.cleared[1] = {senders.grad_pos, 3 * int64_t(sizeof(float))};
  jobs.stacked = stacked;
  jobs.senders = senders;
  jobs.stack_blocks = blocks_for_numbers(2 * int64_t(stacked.width) * stacked.features);
  jobs.place_blocks = blocks_for_numbers(p.graph.num_edges);
  return jobs;
}

}  // namespace clof::cuda
