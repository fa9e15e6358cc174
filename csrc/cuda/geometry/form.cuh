// The form B(s, T, F(x)) with many channels, scalars or vectors, on a warp's run of up to 32 edges. First the frames, a
// lane an edge; then the channels, a group of lanes an edge, so that a row of features is read and written as one
// piece; last the positions' gradients, again a lane an edge. The formulas are those of csrc/functor/tensor_form.h.
#pragma once

#include "../../functor/tensor_form.h"
#include "lanes.cuh"

namespace clof::cuda {

// Lanes that share an edge: enough for all channels, or kMostLanes, with several rounds of channels.
constexpr int kMostLanes = 16;
inline int lanes_of_channels(int64_t channels) { return channels <= 1 ? 1 : channels <= 4 ? 4 : kMostLanes; }

// What a warp knows of its edges, in shared memory.
template <class T> struct FormRun {
  T frame[kLanes * 9];
  T weight[kLanes];
  int edge[kLanes], t_row[kLanes];
};

// Shared memory of a block whose warps have one Run each.
template <class Run> CLOF_DEVICE Run& run_of_warp() { return reinterpret_cast<Run*>(shared_memory())[warp_index()]; }
template <class Run> constexpr int shared_bytes_of_runs(int threads) { return threads / kLanes * int(sizeof(Run)); }

// A lane's place in its group of `group` lanes: it has channels `channel`, `channel + group`, ... of the edges `edge`,
// `edge + groups`, ...
template <int Group> struct GroupLane {
  static constexpr int group = Group, groups = kLanes / Group;

  int channel = lane_index() % Group, edge = lane_index() / Group;
};

template <class T, class U, int R> struct Form {
  static constexpr int size = power_of_3(R);
  using Run = FormRun<T>;
  using Components = Tensor<T, R>;

  TensorFormLoads<T, U, R, false> in;

  CLOF_DEVICE int channels() const { return int(in.a.channels); }

  // The edge of this lane, of `count` in the run; gives the positions of its nodes.
  CLOF_DEVICE Ends<T> start_run(Run& run, int64_t edge, bool active) const {
    Ends<T> x{};
    if (active) {
      const Rows<T> row{{edge}};
      x = in.ends(row);
      const Numbers<T, 9> frame = numbers(edge_frame(in.a.mode, x));
#pragma unroll
      for (int k = 0; k < 9; ++k) run.frame[lane_index() * 9 + k] = frame.at[k];
      run.weight[lane_index()] = in.weight(row);
      run.edge[lane_index()] = int(edge);
      run.t_row[lane_index()] = int(in.rows_of_t(row).at[0]);
    }
    warp_barrier();
    return x;
  }

  CLOF_DEVICE static Mat3<T> matrix(const T* at) {
    return {{at[0], at[1], at[2]}, {at[3], at[4], at[5]}, {at[6], at[7], at[8]}};
  }

  CLOF_DEVICE Components load_s(int edge, int channel) const {
    return in.tensor(in.a.s, nullptr, Rows<T>{{edge}}, channel);
  }
  CLOF_DEVICE Components load_t(int64_t row, int channel) const {
    return in.tensor(in.a.t, nullptr, Rows<T>{{row}}, channel);
  }
  CLOF_DEVICE static Components scaled(T weight, Components tensor) {
#pragma unroll
    for (T& x : tensor.at) x = weight * x;
    return tensor;
  }

  // Gradients by the positions of the two ends, given that by the frame.
  CLOF_DEVICE Ends<T> by_ends(Ends<T> x, const Mat3<T>& gradient) const {
    return edge_frame_vjp(frame_parts(in.a.mode, x), x, gradient);
  }
};

}  // namespace clof::cuda
