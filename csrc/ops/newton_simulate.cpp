// The simulation of Newtonian systems: it has no gradient and no other device.
#include "host.h"

namespace clof::host {
namespace {

// Systems in the widest register: threads share whole registers.
constexpr int64_t kSystemsPerBlock = 8;

// (S, ...) tensor of particles whose sizes fit pos, made dense.
Tensor checked_particles(const Tensor& tensor, std::initializer_list<int64_t> sizes, const char* name) {
  check::shape(tensor, sizes, name);
  check::dtype(tensor, ScalarType::Double, name);
  return dense(tensor);
}

void copy_vector(const std::vector<double>& from, double* to, const char* name) {
  if (from.size() != 3) check::fail(name, " must have 3 components; got ", from.size(), ".");
  std::copy(from.begin(), from.end(), to);
}

void run(const NewtonArguments& a, int64_t num_systems) {
  const int64_t blocks = (num_systems + kSystemsPerBlock - 1) / kSystemsPerBlock;
  cpu::parallel_range(blocks, 1, [&](int64_t first, int64_t last) {
    cpu::kernels().newton_simulate(a, first * kSystemsPerBlock, std::min(last * kSystemsPerBlock, num_systems));
  });
}

std::tuple<Tensor, Tensor> newton_simulate(const Tensor& pos_, const Tensor& vel_, const Tensor& charges_,
                                           const Tensor& coupling_, bool inverse_square,
                                           const std::vector<double>& gravity,
                                           const std::vector<double>& magnetic_field, double softening,
                                           double force_limit, double time_step, int64_t num_steps,
                                           int64_t sample_every) {
  const Tensor pos = checked_particles(pos_, {check::any, check::any, 3}, "pos");
  const int64_t systems = pos.size(0), particles = pos.size(1);
  const Tensor vel = checked_particles(vel_, {systems, particles, 3}, "vel");
  const Tensor charges = checked_particles(charges_, {systems, particles}, "charges");
  const Tensor coupling = checked_particles(coupling_, {systems, particles, particles}, "coupling");
  if (sample_every < 1 || num_steps <= sample_every) {
    check::fail("num_steps must be more than sample_every, and that at least 1; got ", num_steps, " and ", sample_every,
                ".");
  }
  const int64_t frames = (num_steps - 1) / sample_every;
  Tensor pos_frames = empty(pos, {systems, frames, particles, 3});
  Tensor vel_frames = empty(pos, {systems, frames, particles, 3});
  NewtonArguments a = {};
  a.inverse_square = inverse_square;
  copy_vector(gravity, a.gravity, "gravity");
  copy_vector(magnetic_field, a.magnetic_field, "magnetic_field");
  a.softening = softening;
  a.force_limit = force_limit;
  a.time_step = time_step;
  a.num_steps = num_steps;
  a.sample_every = sample_every;
  a.num_particles = particles;
  a.pos = static_cast<const double*>(data(pos));
  a.vel = static_cast<const double*>(data(vel));
  a.charges = static_cast<const double*>(data(charges));
  a.coupling = static_cast<const double*>(data(coupling));
  a.pos_frames = static_cast<double*>(pos_frames.data_ptr());
  a.vel_frames = static_cast<double*>(vel_frames.data_ptr());
  run(a, systems);
  return {pos_frames, vel_frames};
}

}  // namespace
}  // namespace clof::host

STABLE_TORCH_LIBRARY_IMPL(clof_ext, CPU, library) {
  library.impl("newton_simulate", TORCH_BOX(&clof::host::newton_simulate));
}
