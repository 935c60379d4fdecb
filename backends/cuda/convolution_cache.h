// SPDX-License-Identifier: MIT
// Convolutions of an engine, each made once: networks repeat their convolutions, and a plan that is fused takes a second to
// compile.
#pragma once

#include "backends/cuda/engine.h"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

namespace mfres::cuda {

/// What tells convolutions apart: all of the spec and the rules.
std::string key_of(const ConvolutionSpec& spec, const ConvolutionRules& rules);

class ConvolutionCache {
  public:
    /// Makes a convolution, or returns null if there is none.
    using Make = std::function<std::unique_ptr<Convolution>(const ConvolutionSpec&, const ConvolutionRules&)>;

    explicit ConvolutionCache(Make make) : make_(std::move(make)) {}

    /// What `make` gives; convolutions with the same spec and rules share it. Null is remembered, too.
    std::unique_ptr<Convolution> get(const ConvolutionSpec& spec, const ConvolutionRules& rules);

    void clear() { made_.clear(); }

  private:
    Make make_;
    std::map<std::string, std::shared_ptr<Convolution>> made_;
};

} // namespace mfres::cuda
