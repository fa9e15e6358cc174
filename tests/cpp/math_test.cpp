// The formulas of csrc/math without PyTorch: every f_vjp against finite differences of f, dual numbers against finite
// differences of f_vjp. Prints a line for each check; the exit code is the number of failures.
#include <cmath>
#include <cstdio>
#include <functional>
#include <random>
#include <vector>

#include "../../csrc/math/dual.h"
#include "../../csrc/math/edge_scalars.h"
#include "../../csrc/math/tensor_form.h"

using namespace clof;
using Numbers = std::vector<double>;

static int failures = 0;

static void expect(bool holds, const char* what, double error) {
  std::printf("%-62s %s (error %.1e)\n", what, holds ? "ok" : "WRONG", error);
  failures += !holds;
}

static std::mt19937 generator(1);
static Numbers random_numbers(size_t count) {
  std::normal_distribution<double> normal;
  Numbers out(count);
  for (double& x : out) x = normal(generator);
  return out;
}

template <class S> static Vec3<S> vec(const std::vector<S>& x, size_t at) { return {x[at], x[at + 1], x[at + 2]}; }
template <class S> static Ends<S> ends(const std::vector<S>& x, size_t at = 0) { return {vec(x, at), vec(x, at + 3)}; }
template <class S> static void append(std::vector<S>& out, Vec3<S> v) { out.insert(out.end(), {v.x, v.y, v.z}); }
template <class S> static std::vector<S> flat(Mat3<S> m) {
  std::vector<S> out;
  for (Vec3<S> row : {m.a, m.b, m.c}) append(out, row);
  return out;
}

// Each formula as a function of a list of numbers, with its gradient for a list of cotangents.
struct FrameFormula {
  FrameMode mode;
  static constexpr size_t inputs = 6, outputs = 9;

  template <class S> std::vector<S> f(const std::vector<S>& x) const { return flat(edge_frame(mode, ends(x))); }
  template <class S> std::vector<S> vjp(const std::vector<S>& x, const std::vector<S>& g) const {
    const Ends<S> grad = edge_frame_vjp(frame_parts(mode, ends(x)), ends(x), Mat3<S>{vec(g, 0), vec(g, 3), vec(g, 6)});
    std::vector<S> out;
    for (Vec3<S> v : {grad.i, grad.j}) append(out, v);
    return out;
  }
};

struct ScalarsFormula {
  FrameMode mode;
  static constexpr size_t inputs = 12, outputs = 14;

  template <class S> std::vector<S> f(const std::vector<S>& x) const {
    const EdgeScalars<S> out = edge_scalars(mode, ends(x), ends(x, 6));
    std::vector<S> flat = {out.sin, out.cos};
    for (Vec3<S> v : {out.x.i, out.x.j, out.v.i, out.v.j}) append(flat, v);
    return flat;
  }
  template <class S> std::vector<S> vjp(const std::vector<S>& x, const std::vector<S>& g) const {
    const EdgeScalars<S> cotangent = {g[0], g[1], ends(g, 2), ends(g, 8)};
    const EdgeScalarsGradient<S> grad = edge_scalars_vjp(mode, ends(x), ends(x, 6), cotangent);
    std::vector<S> out;
    for (Vec3<S> v : {grad.x.i, grad.x.j, grad.v.i, grad.v.j}) append(out, v);
    return out;
  }
};

// project as a function of the frame (9 numbers) and the tensor.
template <int R> struct ProjectFormula {
  static constexpr size_t outputs = power_of_3(R), inputs = 9 + outputs;

  template <class S> static Mat3<S> frame(const std::vector<S>& x) { return {vec(x, 0), vec(x, 3), vec(x, 6)}; }
  template <class S> static Tensor<S, R> tensor(const std::vector<S>& x, size_t at) {
    Tensor<S, R> out;
    for (size_t c = 0; c < outputs; ++c) out.at[c] = x[at + c];
    return out;
  }
  template <class S> std::vector<S> f(const std::vector<S>& x) const {
    const Tensor<S, R> out = project(frame(x), tensor(x, 9));
    return {out.at, out.at + outputs};
  }
  template <class S> std::vector<S> vjp(const std::vector<S>& x, const std::vector<S>& g) const {
    std::vector<S> out = flat(form_frame_vjp(frame(x), tensor(g, 0), tensor(x, 9)));
    const Tensor<S, R> grad = tensorize(frame(x), tensor(g, 0));
    out.insert(out.end(), grad.at, grad.at + outputs);
    return out;
  }
};

static double dot(const Numbers& x, const Numbers& y) {
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) sum += x[i] * y[i];
  return sum;
}

static Numbers moved(Numbers x, const Numbers& direction, double step) {
  for (size_t i = 0; i < x.size(); ++i) x[i] += step * direction[i];
  return x;
}

// Derivative of a number-valued function in a direction, by central differences of fourth order.
static double slope(const std::function<double(double)>& at) {
  const double step = 1e-3;
  return (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step);
}

template <class Formula> static void check(const Formula& formula, const char* name, int mode) {
  char text[96];
  const Numbers x = random_numbers(Formula::inputs), g = random_numbers(Formula::outputs);
  const Numbers u = random_numbers(Formula::inputs), w = random_numbers(Formula::outputs);
  const double first = slope([&](double t) { return dot(g, formula.f(moved(x, u, t))); });
  double error = std::fabs(dot(formula.vjp(x, g), u) - first);
  std::snprintf(text, sizeof text, "%s, mode %d: vjp", name, mode);
  expect(error < 1e-7 * (1 + std::fabs(first)), text, error);

  // Dual numbers: the tangent of vjp(x + eps u, g + eps w) along a further direction.
  std::vector<Dual<double>> dual_x, dual_g;
  for (size_t i = 0; i < x.size(); ++i) dual_x.push_back({x[i], u[i]});
  for (size_t i = 0; i < g.size(); ++i) dual_g.push_back({g[i], w[i]});
  const Numbers v = random_numbers(Formula::inputs);
  double tangent = 0;
  const auto dual_grad = formula.vjp(dual_x, dual_g);
  for (size_t i = 0; i < v.size(); ++i) tangent += dual_grad[i].tangent * v[i];
  const double second = slope([&](double t) { return dot(formula.vjp(moved(x, u, t), moved(g, w, t)), v); });
  error = std::fabs(tangent - second);
  std::snprintf(text, sizeof text, "%s, mode %d: dual numbers through the vjp", name, mode);
  expect(error < 1e-6 * (1 + std::fabs(second)), text, error);
}

template <class Formula> static void check_singular(const Formula& formula, const char* name, const Numbers& x) {
  std::vector<Dual<double>> dual_x, dual_g;
  for (double number : x) dual_x.push_back({number, 0.5});
  for (double number : random_numbers(Formula::outputs)) dual_g.push_back({number, 0.0});
  bool finite = true;
  for (const auto& number : formula.f(dual_x)) finite = finite && std::isfinite(number.value + number.tangent);
  for (const auto& number : formula.vjp(dual_x, dual_g))
    finite = finite && std::isfinite(number.value + number.tangent);
  expect(finite, name, 0);
}

static void check_orthonormal() {
  const Ends<double> x = ends(random_numbers(6));
  const Mat3<double> frame = edge_frame(FrameMode::orthonormal, x);
  const double error = std::fabs(dot(frame.a, frame.a) - 1) + std::fabs(dot(frame.b, frame.b) - 1) +
                       std::fabs(dot(frame.a, frame.b)) + std::fabs(dot(cross(frame.a, frame.b), frame.c) - 1);
  expect(error < 1e-14, "orthonormal frames have F F^T = 1 and det F = 1", error);
}

int main() {
  for (int mode = 0; mode < 3; ++mode) {
    check(FrameFormula{FrameMode(mode)}, "edge_frame", mode);
    check(ScalarsFormula{FrameMode(mode)}, "edge_scalars", mode);
    const Numbers p = {0.3, -0.7, 0.2}, velocities = {1, 2, 3, 4, 5, 6};
    const auto pair = [&](double scale) {
      Numbers x = {p[0], p[1], p[2], scale * p[0], scale * p[1], scale * p[2]};
      return x;
    };
    for (double scale : {1.0, -2.0, 0.0}) {
      Numbers x = pair(scale);
      check_singular(FrameFormula{FrameMode(mode)}, "edge_frame stays finite on a singular edge", x);
      x.insert(x.end(), velocities.begin(), velocities.end());
      check_singular(ScalarsFormula{FrameMode(mode)}, "edge_scalars stays finite on a singular edge", x);
    }
  }
  check(ProjectFormula<0>{}, "project of order 0", 0);
  check(ProjectFormula<1>{}, "project of order 1", 0);
  check(ProjectFormula<2>{}, "project of order 2", 0);
  check(ProjectFormula<3>{}, "project of order 3", 0);
  check_orthonormal();
  std::printf("%d failures\n", failures);
  return failures;
}
