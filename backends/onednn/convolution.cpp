#include "backends/onednn/convolution.h"

#include "backends/onednn/formulation.h"
#include "backends/onednn/loops.h"

#include <optional>
#include <unordered_map>

namespace mfres::onednn {

namespace {

using dnnl::memory;

ConvolutionShape shape_of(const ConvolutionStep& step) {
    return {step.conv, step.in, step.out};
}

/// Formulations worth asking for, cheapest first.
std::vector<Formulation> formulations(const ConvolutionStep& step) {
    std::vector<bool> residual_copies = {false};
    if (step.residual && !step.residual_in_output)
        residual_copies.push_back(true);
    std::vector<Formulation> all;
    for (const bool padded : {false, true}) {
        if (padded && step.conv.padding[2] == 0)
            continue;
        for (Formulation form : grouping_formulations(shape_of(step)))
            for (const bool copied : residual_copies) {
                form.padded_copy = padded;
                form.residual_copy = copied;
                all.push_back(form);
            }
    }
    return all;
}

class Convolution final : public Operation {
  public:
    Convolution(const ConvolutionStep& step, const dnnl::engine& engine) : step_(step), engine_(engine) {
        choose();
        reorder_weights();
        step_.weights = step_.bias = nullptr; // theirs may go now
    }

    std::string implementation() const override { return descriptor_.impl_info_str() + describe(form_); }

    std::int64_t scratch_bytes() const override {
        return engine_scratch_bytes() + (form_.padded_copy ? padded_source_bytes() : 0);
    }

    std::int64_t constant_bytes() const override {
        return static_cast<std::int64_t>(weights_.get_desc().get_size() + bias_.size() * sizeof(float));
    }

    void bind(const Place& place) override {
        place_ = place;
        padded_ = form_.padded_copy ? reinterpret_cast<float*>(place.scratch + engine_scratch_bytes()) : nullptr;
        const auto at = [&](const memory::desc& desc, const void* data) {
            return memory(desc, engine_, const_cast<void*>(data)); // oneDNN has no memory of const
        };
        const float* source = padded_ ? padded_ : place.inputs[0];
        arguments_ = {{DNNL_ARG_SRC, at(descriptor_.src_desc(), source)},
                      {DNNL_ARG_WEIGHTS, weights_},
                      {DNNL_ARG_BIAS, at(descriptor_.bias_desc(), bias_.data())},
                      {DNNL_ARG_DST, at(descriptor_.dst_desc(), place.output)},
                      {DNNL_ARG_SCRATCHPAD, at(descriptor_.scratchpad_desc(), place.scratch)}};
        if (adds_from_elsewhere(form_))
            arguments_.emplace(DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1,
                               at(descriptor_.dst_desc(), place.residual));
        primitive_ = dnnl::convolution_forward(descriptor_);
    }

    void run(dnnl::stream& stream) override {
        if (padded_)
            pad_z({step_.in, step_.threads}, place_.inputs[0], step_.conv.padding[2], padded_);
        if (form_.residual_copy)
            copy_values({step_.out, step_.threads}, place_.residual, place_.output);
        primitive_.execute(stream, arguments_);
    }

  private:
    bool adds_from_elsewhere(const Formulation& form) const {
        return step_.residual && !step_.residual_in_output && !form.residual_copy;
    }

    dnnl::primitive_attr attributes(const Formulation& form, const memory::desc& destination) const {
        dnnl::post_ops operations;
        if (adds_from_elsewhere(form))
            operations.append_binary(dnnl::algorithm::binary_add, destination);
        else if (step_.residual)
            operations.append_sum(1.0F);
        append_activation(operations, step_.activation);
        dnnl::primitive_attr attributes;
        attributes.set_post_ops(operations);
        attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
        return attributes;
    }

    /// Takes the first formulation with a compiled kernel, or the best there is. What oneDNN refuses is passed over;
    /// if it refuses everything, its reason for the plain formulation is thrown.
    void choose() {
        std::optional<Speed> best;
        std::optional<dnnl::error> refusal;
        for (const Formulation& form : formulations(step_)) {
            try {
                const ConvolutionGeometry g = geometry(shape_of(step_), form);
                auto descriptor = describe(g, attributes(form, g.destination), engine_);
                const Speed speed = speed_of(descriptor.impl_info_str());
                // The gemm kernels of 2.6.3 give wrong sums with a whole tensor as binary operand.
                const bool wrong = speed == Speed::gemm && adds_from_elsewhere(form);
                if (wrong || (best && speed >= *best))
                    continue;
                best = speed;
                form_ = form;
                descriptor_ = std::move(descriptor);
                if (speed == Speed::compiled)
                    return;
            } catch (const dnnl::error& error) {
                if (!refusal)
                    refusal = error;
            }
        }
        if (!best)
            throw refusal.value_or(dnnl::error(dnnl_unimplemented, "there is no usable kernel for this convolution"));
    }

    void reorder_weights() {
        AlignedVector<float> merged;
        if (form_.merged_groups > 1) {
            merged.resize(static_cast<std::size_t>(merged_weight_count(shape_of(step_), form_.merged_groups)));
            merge_groups(shape_of(step_), form_.merged_groups, step_.weights->data(), merged.data());
        }
        const float* plain = merged.empty() ? step_.weights->data() : merged.data();
        memory from(plain_weights(weight_dims(shape_of(step_), form_)), engine_, const_cast<float*>(plain));
        weights_ = memory(descriptor_.weights_desc(), engine_);
        dnnl::stream stream(engine_);
        dnnl::reorder(from, weights_).execute(stream, from, weights_);
        stream.wait();
        bias_.assign(static_cast<std::size_t>(step_.conv.out_channels), 0.0F);
        if (step_.bias)
            std::copy_n(step_.bias->data(), step_.conv.out_channels, bias_.begin());
    }

    std::int64_t engine_scratch_bytes() const {
        const auto bytes = static_cast<std::int64_t>(descriptor_.scratchpad_desc().get_size());
        return (bytes + 63) / 64 * 64;
    }

    std::int64_t padded_source_bytes() const { return static_cast<std::int64_t>(descriptor_.src_desc().get_size()); }

    ConvolutionStep step_;
    dnnl::engine engine_;
    Formulation form_;
    dnnl::convolution_forward::primitive_desc descriptor_;
    dnnl::convolution_forward primitive_;
    memory weights_;
    AlignedVector<float> bias_;
    Place place_;
    float* padded_ = nullptr;
    std::unordered_map<int, memory> arguments_;
};

} // namespace

std::unique_ptr<Operation> make_convolution(const ConvolutionStep& step, const dnnl::engine& engine) {
    return std::make_unique<Convolution>(step, engine);
}

} // namespace mfres::onednn
