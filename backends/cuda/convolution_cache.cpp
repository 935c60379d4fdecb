// SPDX-License-Identifier: MIT
#include "backends/cuda/convolution_cache.h"

#include "core/try.h"

namespace mfres::cuda {

namespace {

/// A convolution that others use as well: its arrays come with each run.
class SharedConvolution final : public Convolution {
  public:
    explicit SharedConvolution(std::shared_ptr<Convolution> made) : made_(std::move(made)) {}
    std::string implementation() const override { return made_->implementation(); }
    std::int64_t workspace_bytes() const override { return made_->workspace_bytes(); }
    ElementType result_type() const override { return made_->result_type(); }
    void run(const ConvolutionArrays& arrays) override { made_->run(arrays); }

  private:
    std::shared_ptr<Convolution> made_;
};

} // namespace

std::string key_of(const ConvolutionSpec& spec, const ConvolutionRules& rules) {
    std::string key;
    const auto add = [&](auto value) { key += text(value, ' '); };
    for (const auto& shape : {spec.in, spec.out})
        for (const std::int64_t extent : shape)
            add(extent);
    for (const auto& axes : {spec.conv.kernel, spec.conv.stride, spec.conv.padding, spec.conv.dilation})
        for (const std::int64_t value : axes)
            add(value);
    add(spec.conv.groups);
    add(static_cast<int>(spec.pass));
    add(static_cast<int>(spec.type));
    add(spec.bias);
    add(spec.residual);
    add(static_cast<int>(spec.activation.kind));
    add(spec.activation.slope);
    add(rules.allow_tf32);
    add(rules.deterministic);
    add(rules.workspace_limit);
    return key;
}

std::unique_ptr<Convolution> ConvolutionCache::get(const ConvolutionSpec& spec, const ConvolutionRules& rules) {
    const auto [at, is_new] = made_.try_emplace(key_of(spec, rules));
    if (is_new)
        try {
            at->second = make_(spec, rules);
        } catch (...) { // the next one is to fail in the same way
            made_.erase(at);
            throw;
        }
    return at->second ? std::make_unique<SharedConvolution>(at->second) : nullptr;
}

} // namespace mfres::cuda
