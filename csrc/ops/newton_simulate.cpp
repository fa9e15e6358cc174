#include "newton_simulate.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <vector>

#include "../check.h"
#include "../cpu/dispatch.h"
#include "../cpu/parallel.h"

namespace clof::host {
namespace {

namespace py = pybind11;
using Array = py::array_t<double, py::array::c_style | py::array::forcecast>;
using Vector = std::array<double, 3>;

// Systems in the widest register: threads share whole registers.
constexpr int64_t kSystemsPerBlock = 8;

void check_shape(const Array& array, const std::vector<py::ssize_t>& expected, const char* name) {
  if (!std::equal(expected.begin(), expected.end(), array.shape(), array.shape() + array.ndim())) {
    check::fail(name, " must have a shape that fits pos, (systems, particles, 3); it does not.");
  }
}

void check_shapes(const Array& pos, const Array& vel, const Array& charges, const Array& coupling) {
  if (pos.ndim() != 3) check::fail("pos must have shape (systems, particles, 3); got ", pos.ndim(), " axes.");
  const py::ssize_t systems = pos.shape(0), particles = pos.shape(1);
  check_shape(pos, {systems, particles, 3}, "pos");
  check_shape(vel, {systems, particles, 3}, "vel");
  check_shape(charges, {systems, particles}, "charges");
  check_shape(coupling, {systems, particles, particles}, "coupling");
}

void run(const NewtonArguments& a, int64_t num_systems) {
  const py::gil_scoped_release release;
  const int64_t blocks = (num_systems + kSystemsPerBlock - 1) / kSystemsPerBlock;
  cpu::parallel_range(blocks, 1, [&](int64_t first, int64_t last) {
    cpu::kernels().newton_simulate(a, first * kSystemsPerBlock, std::min(last * kSystemsPerBlock, num_systems));
  });
}

py::tuple newton_simulate(const Array& pos, const Array& vel, const Array& charges, const Array& coupling,
                          bool inverse_square, const Vector& gravity, const Vector& magnetic_field, double softening,
                          double force_limit, double time_step, int64_t num_steps, int64_t sample_every) {
  check_shapes(pos, vel, charges, coupling);
  if (sample_every < 1 || num_steps <= sample_every) {
    check::fail("num_steps must be more than sample_every, and that at least 1; got ", num_steps, " and ", sample_every,
                ".");
  }
  const py::ssize_t systems = pos.shape(0), particles = pos.shape(1);
  const std::vector<py::ssize_t> frames = {systems, (num_steps - 1) / sample_every, particles, 3};
  Array pos_frames(frames), vel_frames(frames);
  NewtonArguments a = {};
  a.inverse_square = inverse_square;
  std::copy(gravity.begin(), gravity.end(), a.gravity);
  std::copy(magnetic_field.begin(), magnetic_field.end(), a.magnetic_field);
  a.softening = softening;
  a.force_limit = force_limit;
  a.time_step = time_step;
  a.num_steps = num_steps;
  a.sample_every = sample_every;
  a.num_particles = particles;
  a.pos = pos.data();
  a.vel = vel.data();
  a.charges = charges.data();
  a.coupling = coupling.data();
  a.pos_frames = pos_frames.mutable_data();
  a.vel_frames = vel_frames.mutable_data();
  run(a, systems);
  return py::make_tuple(pos_frames, vel_frames);
}

}  // namespace

void bind_newton_simulate(py::module_& module) {
  module.def("newton_simulate", &newton_simulate,
             "Frames of positions and velocities, each (S, T, n, 3) with T = (num_steps - 1) // sample_every, of S "
             "systems of n particles.",
             py::arg("pos"), py::arg("vel"), py::arg("charges"), py::arg("coupling"), py::kw_only(),
             py::arg("inverse_square"), py::arg("gravity"), py::arg("magnetic_field"), py::arg("softening"),
             py::arg("force_limit"), py::arg("time_step"), py::arg("num_steps"), py::arg("sample_every"));
}

}  // namespace clof::host
