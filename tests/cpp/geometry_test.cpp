// The tiled CUDA kernels of the geometry ops, on a GPU in software, against the functors run one edge at a time. Prints
// a line for each check; the exit code is the number of failures.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "../../csrc/cuda/geometry/edge_rows.cuh"
#include "../../csrc/cuda/geometry/edge_sums.cuh"
#include "../../csrc/cuda/geometry/form_edges.cuh"
#include "../../csrc/cuda/geometry/form_runs.cuh"
#include "../../csrc/cuda/geometry/node_sums.cuh"
#include "../../csrc/functor/edge_frame.h"
#include "../../csrc/functor/edge_scalars.h"

using namespace clof;
using namespace clof::cuda;

static int failures = 0;
static std::mt19937 generator(1);

static void expect(bool holds, const std::string& what, double error) {
  std::printf("%-90s %s (error %.1e)\n", what.c_str(), holds ? "ok" : "WRONG", error);
  failures += !holds;
}

template <class U> static std::vector<U> random_numbers(size_t count) {
  std::normal_distribution<float> normal;
  std::vector<U> out(count);
  for (U& x : out) x = Narrow<U>::from(normal(generator));
  return out;
}

// A graph with the tensors of its plan.
struct Plan {
  std::string name;
  int nodes;
  std::vector<int32_t> receiver, sender, by_receiver, by_sender, receiver_start, sender_start, crossings;

  Plan(std::string name, int nodes, std::vector<int32_t> receiver_, std::vector<int32_t> sender_)
      : name(std::move(name)), nodes(nodes), receiver(std::move(receiver_)), sender(std::move(sender_)) {
    sort_by(receiver, by_receiver, receiver_start);
    sort_by(sender, by_sender, sender_start);
    crossings.assign(nodes + 1, 0);
    for (size_t e = 0; e < receiver.size(); ++e) {
      ++crossings[std::min(receiver[e], sender[e]) + 1];
      --crossings[std::max(receiver[e], sender[e]) + 1];
    }
    std::partial_sum(crossings.begin(), crossings.end(), crossings.begin());
  }
  void sort_by(const std::vector<int32_t>& node, std::vector<int32_t>& order, std::vector<int32_t>& start) const {
    order.resize(node.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return node[a] < node[b]; });
    start.assign(nodes + 1, 0);
    for (int32_t n : node) ++start[n + 1];
    std::partial_sum(start.begin(), start.end(), start.begin());
  }
  Graph graph() const {
    return {receiver.data(),     sender.data(), by_receiver.data(),      by_sender.data(), receiver_start.data(),
            sender_start.data(), nodes,         int64_t(receiver.size())};
  }
};

static Plan random_plan(std::string name, int nodes, int edges, bool sorted) {
  std::vector<int32_t> receiver(edges), sender(edges);
  for (int e = 0; e < edges; ++e) {
    receiver[e] = int(generator() % (nodes - 1));  // the last node has no edges
    sender[e] = (receiver[e] + 1 + int(generator() % (nodes - 2))) % (nodes - 1);
  }
  if (sorted) std::sort(receiver.begin(), receiver.end());
  return {std::move(name), nodes, receiver, sender};
}

// Graphs of `size` nodes, each with an edge from every node of its graph.
static Plan batch_plan(std::string name, int graphs, int size) {
  std::vector<int32_t> receiver, sender;
  for (int n = 0; n < graphs * size; ++n) {
    for (int k = 0; k < size; ++k) {
      receiver.push_back(n);
      sender.push_back(n / size * size + k);
    }
  }
  return {std::move(name), graphs * size, receiver, sender};
}

static std::vector<Plan> plans() {
  std::vector<Plan> all;
  all.push_back(batch_plan("batch", 7, 20));
  all.push_back(batch_plan("one large graph", 1, 45));
  all.push_back(random_plan("unsorted", 150, 900, false));
  all.push_back(random_plan("sorted", 150, 2100, true));
  all.push_back(random_plan("few edges", 300, 33, false));
  all.push_back(random_plan("many edges a node", 4, 900, true));
  all.push_back({"no edges", 5, {}, {}});
  return all;
}

template <class T> static double relative_error(const std::vector<T>& found, const std::vector<T>& expected) {
  double error = 0, largest = 1;
  for (size_t k = 0; k < expected.size(); ++k) {
    const double difference = std::abs(double(widen(found[k])) - double(widen(expected[k])));
    error = difference <= error ? error : difference;  // a NaN stays
    largest = std::max(largest, std::abs(double(widen(expected[k]))));
  }
  return error / largest;
}

template <class U> constexpr double tolerance = sizeof(U) == 8 ? 1e-12 : sizeof(U) == 4 ? 3e-5 : 8e-3;

// Fills the result with numbers that must not be left, runs, and compares; also in the other order of threads, which
// must give the same bits.
template <class U> static void check(const std::string& what, std::vector<U>& result, const std::vector<U>& expected,
                                     const std::function<void()>& run) {
  std::vector<U> first;
  for (bool descending : {false, true}) {
    // Races are found in either order.
    if (emulated::kFindsRaces && descending) break;
    emulated::descending = descending;
    std::fill(result.begin(), result.end(), Narrow<U>::from(1e30f));
    run();
    if (!descending) first = result;
  }
  const double error = relative_error(result, expected);
  const bool same =
      std::equal(first.begin(), first.end(), result.begin(), [](U a, U b) { return widen(a) == widen(b); });
  expect(error <= tolerance<U> && same, what + (same ? "" : ": other bits"), error);
}

static int64_t blocks_for(int64_t items, int64_t per_block) {
  // Fewer than there are tiles, so that blocks go on to others.
  return std::max<int64_t>((items + per_block - 1) / per_block * 2 / 3, 1);
}

template <class T, class Map>
static void check_rows(const std::string& what, const Plan& plan, const Map& map, std::vector<T>& rows) {
  std::vector<T> expected(rows.size());
  const int64_t edges = plan.graph().num_edges;
  for (int64_t e = 0; e < edges; ++e) {
    store_rows(expected.data(), e, map.row(consecutive<T>(e)));
  }
  check<T>(what + " rows, " + plan.name, rows, expected, [&] {
    launch(int(blocks_for(edges, 64)), 64, edge_rows_shared_bytes<T, Map>(64),
           EdgeRows<T, Map>{map, rows.data(), edges});
  });
}

template <class T, class Sum>
static void check_sums(const std::string& what, const Plan& plan, Sum sum, std::vector<T>& sums) {
  const Graph graph = plan.graph();
  std::vector<T> found(sums.size());
  std::fill(sums.begin(), sums.end(), T(0));
  for (Place role : {Place::receiver, Place::sender}) {
    sum.role = role;
    for (int64_t p = 0; p < graph.num_edges; ++p) sum.template operator()<T>(p, 0, 0);
  }
  const std::vector<T> expected = sums;
  // Blocks that hold all edges of most runs, and such that hold a few at a time.
  const auto check_kernel = [&](auto kernel, int run) {
    using Kernel = decltype(kernel);
    const int edges = Kernel::room;
    const std::string name = what + " sums, " + plan.name + ", " + std::to_string(edges) + " edges at once, runs of ";
    kernel.sum = sum;
    kernel.run = run;
    check<T>(name + std::to_string(run), sums, expected,
             [&] { launch(int(blocks_for(plan.nodes, run)), 96, sizeof(typename Kernel::Shared), kernel); });
  };
  using Wide = EdgeSums<T, Sum, 96>;
  using Narrow = EdgeSums<T, Sum, 96, 100>;
  for (int run : {nodes_of_run(graph.num_nodes, graph.num_edges, Wide::room), 37, kMaxRun}) {
    check_kernel(Wide{sum, run}, run);
    check_kernel(Narrow{sum, run}, run);
  }
}

template <class T, bool Second> static void check_edges(const Plan& plan) {
  const int64_t nodes = plan.nodes, edges = plan.graph().num_edges;
  const auto pos = random_numbers<T>(nodes * 3), vel = random_numbers<T>(nodes * 3);
  const auto pos_tangent = random_numbers<T>(nodes * 3), vel_tangent = random_numbers<T>(nodes * 3);
  const auto gradient = random_numbers<T>(edges * 14);
  std::vector<T> rows, sums(nodes * 6);
  const std::string type = std::string(sizeof(T) == 8 ? "float64" : "float32") + (Second ? " tangent" : "");

  const EdgeFrameArguments f = {plan.graph(), FrameMode::soft,    Storage::float32,
                                pos.data(),   pos_tangent.data(), gradient.data(),
                                nullptr,      sums.data(),        plan.crossings.data()};
  rows.resize(edges * 9);
  check_rows<T>("edge_frame " + type, plan, EdgeFrameMap<T, Second>{f}, rows);
  sums.resize(nodes * 3);
  check_sums<T>("edge_frame " + type, plan, EdgeFrameSum<T, Second>{f, {}}, sums);

  sums.resize(nodes * 6);
  EdgeScalarsArguments s = {plan.graph(),
                            FrameMode::orthonormal,
                            Storage::float32,
                            pos.data(),
                            vel.data(),
                            pos_tangent.data(),
                            vel_tangent.data(),
                            gradient.data(),
                            nullptr,
                            sums.data(),
                            sums.data() + nodes * 3,
                            plan.crossings.data()};
  rows.resize(edges * 14);
  check_rows<T>("edge_scalars with velocities " + type, plan, EdgeScalarsMap<T, Second, true>{s}, rows);
  check_sums<T>("edge_scalars with velocities " + type, plan, EdgeScalarsSum<T, Second, true>{s, {}}, sums);
  s.vel = nullptr;
  rows.resize(edges * 8);
  sums.resize(nodes * 3);
  check_rows<T>("edge_scalars " + type, plan, EdgeScalarsMap<T, Second, false>{s}, rows);
  check_sums<T>("edge_scalars " + type, plan, EdgeScalarsSum<T, Second, false>{s, {}}, sums);
}

template <class T, class U, int R> struct FormCase {
  const Plan& plan;
  TensorFormArguments a = {};
  std::string what;
  std::vector<T> pos, grad_pos, grad_t_sum, parts;
  std::vector<int32_t> open;
  std::vector<U> s, t, grad_s, grad_t;

  FormCase(const Plan& plan, Place place, bool mean, int channels) : plan(plan) {
    const Graph graph = plan.graph();
    const int64_t row = channels * power_of_3(R);
    const int64_t t_rows = place == Place::edge ? graph.num_edges : graph.num_nodes;
    pos = random_numbers<T>(graph.num_nodes * 3);
    s = random_numbers<U>(graph.num_edges * row);
    t = random_numbers<U>(t_rows * row);
    grad_s.resize(s.size());
    grad_t.resize(t.size());
    grad_t_sum.resize(graph.num_nodes * row);
    grad_pos.resize(pos.size());
    parts.resize(graph.num_edges * 6);
    open.resize(graph.num_nodes);
    a.crossings = plan.crossings.data();
    a.grad_pos = grad_pos.data();
    a.graph = graph;
    a.mode = FrameMode::soft;
    a.order = R;
    a.place = place;
    a.mean = mean;
    a.channels = channels;
    a.s = s.data();
    a.t = t.data();
    a.pos = pos.data();
    const char* places[] = {"receiver", "sender", "edge"};
    what = "order " + std::to_string(R) + ", " + std::to_string(channels) + " channels, " +
           std::to_string(8 * sizeof(U)) + " bits, T on " + places[int(place)] + (mean ? ", mean, " : ", ") + plan.name;
  }

  PositionScratch<T> scratch(int run) {
    std::fill(parts.begin(), parts.end(), T(1e30));
    return {parts.data(), open.data(), run};
  }
  template <class Kernel> static void launch_form(const Kernel& kernel, int64_t blocks) {
    launch(int(blocks), 64, Kernel::shared_bytes(64), kernel);
  }

  void on_edges(const TensorFormArguments& arguments) {
    with_sharing(a.channels, [&](auto sharing) {
      using Kernel = TensorFormEdges<T, U, R, false, decltype(sharing)>;
      launch_form(Kernel{{{arguments}}, {}}, blocks_for(a.graph.num_edges, 64));
    });
  }
  void on_nodes(const TensorFormArguments& arguments) {
    with_sharing(a.channels, [&](auto sharing) {
      using Kernel = TensorFormNodes<T, U, R, decltype(sharing)>;
      launch_form(Kernel{{{{arguments}}}, a.place}, blocks_for(plan.nodes, 2));
    });
  }
  // With the positions' gradient, by runs of nodes; of few nodes with little room for their edges.
  static constexpr int kFewNodes = 11;
  void backward(const TensorFormArguments& arguments, int run) {
    const PositionScratch<T> memory = scratch(run);
    const int64_t blocks = blocks_for(plan.nodes, run);
    with_sharing(a.channels, [&](auto sharing) {
      if (arguments.grad_t == nullptr || a.place == Place::edge) {
        launch_form(TensorFormEdges<T, U, R, true, decltype(sharing)>{{{arguments}}, memory}, blocks);
      } else if (run == kFewNodes) {
        launch_form(TensorFormRuns<T, U, R, decltype(sharing), 100>{{{{arguments}}}, a.place, memory}, blocks);
      } else {
        launch_form(TensorFormRuns<T, U, R, decltype(sharing)>{{{{arguments}}}, a.place, memory}, blocks);
      }
    });
    launch(int(blocks), 64, 0, NodeSums<T>{a.graph, a.crossings, memory, grad_pos.data()});
  }

  // What the functors make of the same arguments.
  void expected_map(const TensorFormArguments& arguments) const {
    const TensorFormMap<T, U, R, false> map{{arguments}};
    for (int64_t e = 0; e < a.graph.num_edges; ++e) map.template operator()<T>(e, 0, a.channels);
  }
  void expected_sum(const TensorFormArguments& arguments, Place role) const {
    const TensorFormSum<T, U, R, false> sum{{arguments}, role};
    for (int64_t p = 0; p < a.graph.num_edges; ++p) sum.template operator()<T>(p, 0, a.channels);
  }
  std::vector<T> expected_pos() const {
    std::vector<T> expected(pos.size());
    TensorFormArguments arguments = a;
    arguments.grad_pos = expected.data();
    for (Place role : {Place::receiver, Place::sender}) expected_sum(arguments, role);
    return expected;
  }

  // project, and aggregate_backward where T is on receivers: the gradient by s, then with the positions.
  void check_map() {
    TensorFormArguments arguments = a;
    std::vector<U> expected(s.size());
    arguments.grad_s = expected.data();
    expected_map(arguments);
    arguments.grad_s = grad_s.data();
    TensorFormArguments forward = arguments;
    forward.s = nullptr;
    check<U>("project " + what, grad_s, expected, [&] { on_edges(forward); });
    check_backward("s", arguments, grad_s, expected);
  }
  // The gradient by s or by T, and that by the positions.
  template <class V> void check_backward(const std::string& by, const TensorFormArguments& arguments,
                                         std::vector<V>& result, const std::vector<V>& expected) {
    const std::vector<T> pos = expected_pos();
    const std::string name = "gradients by " + by + " and pos, ";
    const int usual = nodes_of_run(plan.nodes, a.graph.num_edges, PositionSums<T>::room);
    check<V>(name + by + ", " + what, result, expected, [&] { backward(arguments, usual); });
    for (int run : {usual, kFewNodes}) {
      check<T>(name + "pos, runs of " + std::to_string(run) + ", " + what, grad_pos, pos,
               [&] { backward(arguments, run); });
    }
  }
  void check_t_on_edges() {
    TensorFormArguments arguments = a;
    std::vector<U> expected(t.size());
    arguments.grad_t = expected.data();
    expected_map(arguments);
    arguments.grad_t = grad_t.data();
    check_backward("T", arguments, grad_t, expected);
  }
  void check_t_on_nodes() {
    TensorFormArguments arguments = a;
    arguments.grad_pos = nullptr;
    std::vector<T> expected(grad_t_sum.size());
    arguments.grad_t = expected.data();
    expected_sum(arguments, a.place);
    arguments.grad_t = grad_t_sum.data();
    TensorFormArguments forward = arguments;
    forward.t = nullptr;
    check<T>("aggregate " + what, grad_t_sum, expected, [&] { on_nodes(forward); });
    arguments.grad_pos = grad_pos.data();
    check_backward("T", arguments, grad_t_sum, expected);
  }
};

template <class T, class U, int R> static void check_form(const Plan& plan, int channels) {
  FormCase<T, U, R> on_edges(plan, Place::edge, false, channels);
  on_edges.check_map();
  on_edges.check_t_on_edges();
  for (bool mean : {false, true}) {
    FormCase<T, U, R> on_receivers(plan, Place::receiver, mean, channels);
    on_receivers.check_map();
    on_receivers.check_t_on_nodes();
  }
  FormCase<T, U, R> on_senders(plan, Place::sender, false, channels);
  on_senders.check_map();
  on_senders.check_t_on_nodes();
}

int main() {
  for (const Plan& plan : plans()) {
    check_edges<float, false>(plan);
    check_form<float, BFloat16, 1>(plan, 19);
    // One kind of each kernel, where a thread's every access is looked at.
    if (emulated::kFindsRaces) continue;
    check_edges<double, false>(plan);
    check_edges<double, true>(plan);
    for (int channels : {1, 3, 4, 16, 45}) check_form<double, double, 1>(plan, channels);
    check_form<float, float, 1>(plan, 20);
    check_form<float, BFloat16, 1>(plan, 8);
    check_form<float, float, 1>(plan, 16);
    check_form<float, Half, 0>(plan, 5);
  }
  return failures;
}
