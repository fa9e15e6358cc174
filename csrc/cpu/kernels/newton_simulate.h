// Arguments of the simulation of Newtonian many-body systems.
#pragma once

#include <cstdint>

namespace clof {

// S systems of n particles of mass 1. The total force on particle i, each component clipped to +- force_limit, is
//   sum over j of c_ij d / (|d|^2 + softening)^(3/2)  (c_ij d without inverse_square),  d = x_i - x_j,
//   + gravity + charge_i v_i x magnetic_field.
struct NewtonArguments {
  bool inverse_square;
  double gravity[3];
  double magnetic_field[3];
  double softening;
  double force_limit;
  double time_step;
  int64_t num_steps;
  int64_t sample_every;
  int64_t num_particles;
  const double* pos;       // (S, n, 3)
  const double* vel;       // (S, n, 3)
  const double* charges;   // (S, n)
  const double* coupling;  // (S, n, n), symmetric
  double* pos_frames;      // (S, T, n, 3), T = (num_steps - 1) / sample_every
  double* vel_frames;      // (S, T, n, 3)
};

}  // namespace clof
