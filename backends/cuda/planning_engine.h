// SPDX-License-Identifier: MIT
// An engine without a device: it plans and logs what a GPU would be asked to do.
#pragma once

#include "backends/cuda/convolution_cache.h"
#include "backends/cuda/engine.h"
#include "backends/cuda/launch_log.h"

#include <memory>

namespace mfres::cuda {

/// Nothing is computed, memory of the device is addresses alone, and what is read from it is zero. `log` outlives the
/// engine. `make` makes the convolutions; null: there is one without workspace for whatever is asked for.
std::unique_ptr<Engine> make_planning_engine(LaunchLog& log, ConvolutionCache::Make make = {});

/// The host in place of a GPU as make_host_engine() has it, which logs what it runs. `log` outlives the engine.
std::unique_ptr<Engine> make_logged_host_engine(LaunchLog& log);

/// A convolution that is one launch of the log.
std::unique_ptr<Convolution> logged(LaunchLog& log, const ConvolutionSpec& spec, std::unique_ptr<Convolution> made);

} // namespace mfres::cuda
