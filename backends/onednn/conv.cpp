// SPDX-License-Identifier: MIT
#include "backends/onednn/conv.h"

#include "backends/kernels/convolution.h"
#include "backends/kernels/elementwise.h"
#include "backends/kernels/vector_loops.h"
#include "backends/onednn/ops.h"
#include "core/rounding.h"

#include <algorithm>
#include <optional>
#include <unordered_map>

namespace mfres::onednn {

namespace {

using dnnl::memory;

ConvolutionShape shape_of(const ConvSpec& spec) {
    return {spec.conv, spec.in, spec.out};
}

/// Formulations to ask oneDNN for, cheapest first.
std::vector<Formulation> formulations(const ConvSpec& spec) {
    std::vector<bool> residual_copies = {false};
    if (spec.residual && !spec.residual_in_output)
        residual_copies.push_back(true);
    std::vector<Formulation> all;
    for (const bool padded : {false, true}) {
        if (padded && (spec.conv.padding[2] == 0 || spec.low_precision))
            continue;
        for (Formulation form : grouping_formulations(shape_of(spec)))
            for (const bool copied : residual_copies) {
                form.padded_copy = padded;
                form.residual_copy = copied;
                all.push_back(form);
            }
    }
    return all;
}

OperandTypes types_of(const ConvSpec& spec) {
    if (!spec.low_precision)
        return {};
    const LowPrecision& low = *spec.low_precision;
    const auto weights = low.source.integer() ? memory::data_type::s8 : low.source.type;
    return {low.source.type, weights, low.output.type};
}

/// ", int8 in and out": the precision of the operands, and which arrays are stored in it.
std::string precision_note(const std::optional<LowPrecision>& low) {
    if (!low)
        return "";
    std::string name = low->source.integer() ? ", int8" : ", bf16";
    if (low->source_is_stored)
        name += " in";
    if (low->output.reduced())
        name += low->source_is_stored ? " and out" : " out";
    return name;
}

/// A kernel of oneDNN with its formulation.
struct Choice {
    Formulation form;
    dnnl::convolution_forward::primitive_desc descriptor;
    Speed speed = Speed::naive;
};

bool adds_separate_residual(const ConvSpec& spec, const Formulation& form) {
    return spec.residual && !spec.residual_in_output && !form.residual_copy;
}

dnnl::primitive_attr attributes(const ConvSpec& spec, const Formulation& form, const memory::desc& destination,
                                const std::vector<float>& scales) {
    dnnl::post_ops operations;
    if (adds_separate_residual(spec, form))
        operations.append_binary(dnnl::algorithm::binary_add, destination);
    else if (spec.residual)
        operations.append_sum(1.0F);
    append_activation(operations, spec.activation);
    dnnl::primitive_attr attributes;
    attributes.set_post_ops(operations);
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (!scales.empty())
        set_channel_scales(attributes, scales, spec.conv.groups / form.merged_groups > 1);
    return attributes;
}

/// The first formulation with a compiled kernel, or the fastest of those that oneDNN accepts. If it accepts none, its
/// error for the plain formulation is thrown.
Choice choose(const ConvSpec& spec, const std::vector<float>& scales, const dnnl::engine& engine) {
    std::optional<Choice> best;
    std::optional<dnnl::error> rejection;
    for (const Formulation& form : formulations(spec)) {
        try {
            const ConvolutionGeometry g = geometry(shape_of(spec), form, types_of(spec));
            auto descriptor = describe(g, attributes(spec, form, g.destination, scales), engine);
            const std::string implementation = descriptor.impl_info_str();
            const Speed speed = speed_of(implementation);
            const bool wrong = adds_separate_residual(spec, form) && !adds_operand_correctly(implementation);
            if (wrong || (best && speed >= best->speed))
                continue;
            best = Choice{form, std::move(descriptor), speed};
            if (speed == Speed::compiled)
                break;
        } catch (const dnnl::error& error) {
            if (!rejection)
                rejection = error;
        }
    }
    if (!best)
        throw rejection.value_or(dnnl::error(dnnl_unimplemented, "there is no usable kernel for this convolution"));
    return std::move(*best);
}

/// Converts the source to its format in low precision.
void convert_source(const ConvSpec& spec, const float* x, std::byte* y) {
    const ValueFormat& format = spec.low_precision->source;
    const VectorLoops& loops = vector_loops();
    parallel_for(spec.in.elements(), Domain{spec.in, spec.threads}.useful_threads(),
                 [&](std::int64_t begin, std::int64_t end, int) {
                     if (format.integer())
                         loops.to_bytes(end - begin, format.quantizer, x + begin,
                                        reinterpret_cast<std::uint8_t*>(y) + begin);
                     else
                         loops.to_bf16(end - begin, x + begin, reinterpret_cast<std::uint16_t*>(y) + begin);
                 });
}

std::int64_t bytes_of(memory::data_type type) {
    return static_cast<std::int64_t>(memory::data_type_size(type));
}

class ConvOp final : public InferenceOp {
  public:
    ConvOp(const ConvSpec& spec, const dnnl::engine& engine) : spec_(spec), engine_(engine), types_(types_of(spec)) {
        prepare_constants();
        Choice choice = choose(spec_, scales_, engine_);
        form_ = choice.form;
        descriptor_ = std::move(choice.descriptor);
        cut();
        reorder_weights();
        spec_.weights = spec_.bias = nullptr; // both were copied
    }

    std::string implementation() const override {
        return descriptor_.impl_info_str() + describe(form_) + precision_note(spec_.low_precision);
    }

    std::int64_t workspace_bytes() const override {
        return part_workspace_bytes_ * parts() + (form_.padded_copy || converts_source() ? source_bytes() : 0);
    }

    std::int64_t constant_bytes() const override {
        return weight_bytes_ + static_cast<std::int64_t>((bias_.size() + scales_.size()) * sizeof(float));
    }

    void bind(const OpArguments& arguments) override {
        arguments_ = arguments;
        std::byte* copy = arguments.workspace + part_workspace_bytes_ * parts();
        padded_ = form_.padded_copy ? reinterpret_cast<float*>(copy) : nullptr;
        converted_ = converts_source() ? copy : nullptr;
        const auto at = [&](const memory::desc& desc, const void* data, std::int64_t bytes = 0) {
            const auto* from = static_cast<const std::byte*>(data) + bytes;
            return memory(desc, engine_, const_cast<std::byte*>(from)); // oneDNN has no memory of const
        };
        const void* source = padded_ || converted_ ? static_cast<const void*>(copy) : arguments.inputs[0];
        const std::int64_t margins = padded_ ? 2 * spec_.conv.padding[2] : 0;
        const std::int64_t in_plane = spec_.in[3] * (spec_.in[4] + margins) * spec_.in[1] * bytes_of(types_.source);
        const std::int64_t out_plane = spec_.out[3] * spec_.out[4] * spec_.out[1] * bytes_of(types_.destination);
        for (std::int64_t sample = 0; sample < samples_; ++sample)
            for (const Slab& slab : slabs_) {
                const auto& descriptor = slab.descriptor;
                const std::int64_t in = (sample * spec_.in[2] + slab.in_begin) * in_plane;
                const std::int64_t out = (sample * spec_.out[2] + slab.out_begin) * out_plane;
                std::byte* const workspace =
                    arguments.workspace + part_workspace_bytes_ * static_cast<std::int64_t>(runs_.size());
                PartRun& run = runs_.emplace_back();
                run.primitive = slab.primitive;
                run.stream = dnnl::stream(engine_);
                run.arguments = {{DNNL_ARG_SRC, at(descriptor.src_desc(), source, in)},
                                 {DNNL_ARG_WEIGHTS, slab.weights},
                                 {DNNL_ARG_BIAS, at(descriptor.bias_desc(), bias_.data())},
                                 {DNNL_ARG_DST, at(descriptor.dst_desc(), arguments.output, out)},
                                 {DNNL_ARG_SCRATCHPAD, at(descriptor.scratchpad_desc(), workspace)}};
                if (!scales_.empty())
                    add_channel_scales(run.arguments, scales_, engine_);
                if (adds_separate_residual(spec_, form_))
                    run.arguments.emplace(DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1,
                                          at(descriptor.dst_desc(), arguments.residual, out));
                for (const auto& [index, value] : run.arguments)
                    run.listed.push_back({index, value.get()});
            }
    }

    void run() override {
        if (converted_)
            convert_source(spec_, arguments_.input<float>(0), converted_);
        if (padded_)
            pad_z({spec_.in, spec_.threads}, arguments_.input<float>(0), spec_.conv.padding[2], padded_);
        if (form_.residual_copy)
            copy_values({spec_.out, spec_.threads}, static_cast<const float*>(arguments_.residual),
                        static_cast<float*>(arguments_.output));
        run_parts(static_cast<int>(runs_.size()), [this](int part) {
            PartRun& run = runs_[static_cast<std::size_t>(part)];
            dnnl::error::wrap_c_api(dnnl_primitive_execute(run.primitive.get(), run.stream.get(),
                                                           static_cast<int>(run.listed.size()), run.listed.data()),
                                    "could not execute a convolution");
            run.stream.wait();
        });
    }

  private:
    /// Planes [out_begin, ...) of the output, from planes [in_begin, ...) of the input.
    struct Slab {
        std::int64_t in_begin = 0, out_begin = 0;
        dnnl::convolution_forward::primitive_desc descriptor;
        dnnl::convolution_forward primitive;
        memory weights; ///< may be shared with other slabs
    };

    struct PartRun {
        dnnl::convolution_forward primitive;
        dnnl::stream stream;
        std::unordered_map<int, memory> arguments;
        std::vector<dnnl_exec_arg_t> listed; ///< the same as primitive.execute() would list them in every run
    };

    bool converts_source() const { return spec_.low_precision && !spec_.low_precision->source_is_stored; }

    /// Bias, and for int8 also weights and scales, in the units of the kernel.
    void prepare_constants() {
        const auto channels = static_cast<std::size_t>(spec_.conv.out_channels);
        bias_.assign(channels, 0.0F);
        if (spec_.bias)
            std::copy_n(spec_.bias->data(), spec_.conv.out_channels, bias_.begin());
        plain_.assign(spec_.weights->values().begin(), spec_.weights->values().end());
        if (!spec_.low_precision || !spec_.low_precision->source.integer())
            return;
        const LowPrecision& low = *spec_.low_precision;
        const QuantizedWeights quantized = quantize_weights(*spec_.weights, low.largest);
        plain_.assign(quantized.values.begin(), quantized.values.end());
        const float steps_per_unit = low.output.integer() ? low.output.quantizer.inverse : 1.0F;
        for (std::size_t c = 0; c < channels; ++c) {
            scales_.push_back(quantized.scales[c] * low.source.quantizer.scale * steps_per_unit);
            bias_[c] = bias_before_scale(bias_[c] * steps_per_unit, scales_[c]);
        }
    }

    /// Splits the output along x into slabs. Each is a primitive of its own that one thread runs. It reads the planes of
    /// its neighbours in place, so only the first and the last slab are padded. A slab lies within one sample.
    void cut() {
        samples_ = spec_.threads > 1 && !form_.planes ? spec_.out[0] : 1;
        const std::int64_t extent = form_.planes ? spec_.out[0] * spec_.out[2] : spec_.out[2];
        // Long convolutions are split finer, so that a preempted thread delays the others less.
        constexpr std::int64_t part_macs = 64'000'000;
        const std::int64_t macs = spec_.weights->elements() * (spec_.out.elements() / spec_.out[1] / samples_);
        const std::int64_t rounds =
            spec_.threads == 1 ? 1 : std::clamp<std::int64_t>(macs / part_macs / spec_.threads, 1, 4);
        const std::int64_t count =
            std::clamp<std::int64_t>((spec_.threads * rounds + samples_ - 1) / samples_, 1, extent);
        for (std::int64_t n = 0; n < count; ++n)
            slabs_.push_back(slab(extent * n / count, extent * (n + 1) / count));
        for (const Slab& each : slabs_)
            part_workspace_bytes_ =
                std::max(part_workspace_bytes_,
                         rounded_up(static_cast<std::int64_t>(each.descriptor.scratchpad_desc().get_size()), 64));
    }

    Slab slab(std::int64_t begin, std::int64_t end) const {
        Slab made;
        made.out_begin = begin;
        ConvolutionShape shape = shape_of(spec_);
        if (samples_ == 1 && !form_.planes && spec_.threads == 1) { // all samples at once
            made.descriptor = descriptor_;
        } else if (form_.planes) {
            made.in_begin = begin; // a batch of planes
            shape.in[0] = shape.out[0] = 1;
            shape.in[2] = shape.out[2] = end - begin;
            const ConvolutionGeometry g = geometry(shape, form_, types_);
            made.descriptor = describe(g, attributes(spec_, form_, g.destination, scales_), engine_);
        } else {
            const Conv& conv = spec_.conv;
            const std::int64_t reach = conv.dilation[0] * (conv.kernel[0] - 1);
            const std::int64_t first = begin * conv.stride[0] - conv.padding[0];
            const std::int64_t last = (end - 1) * conv.stride[0] - conv.padding[0] + reach;
            made.in_begin = std::max<std::int64_t>(first, 0);
            const std::int64_t in_end = std::min(last + 1, spec_.in[2]);
            shape.in[0] = shape.out[0] = 1;
            shape.in[2] = in_end - made.in_begin;
            shape.out[2] = end - begin;
            ConvolutionGeometry g = geometry(shape, form_, types_);
            g.padding_low[0] = made.in_begin - first;
            g.padding_high[0] = last + 1 - in_end;
            made.descriptor = describe(g, attributes(spec_, form_, g.destination, scales_), engine_);
        }
        made.primitive = dnnl::convolution_forward(made.descriptor);
        return made;
    }

    void reorder_weights() {
        if (form_.merged_groups > 1) {
            AlignedVector<float> merged(
                static_cast<std::size_t>(merged_weight_count(shape_of(spec_), form_.merged_groups)));
            merge_groups(shape_of(spec_), form_.merged_groups, plain_.data(), merged.data());
            plain_ = std::move(merged);
        }
        memory from(plain_weights(weight_dims(shape_of(spec_), form_)), engine_, plain_.data());
        dnnl::stream stream(engine_);
        for (Slab& slab : slabs_) {
            // Slabs whose kernels want the weights in the same format share them; usually all do.
            const memory::desc wanted = slab.descriptor.weights_desc();
            const auto same = std::find_if(slabs_.begin(), slabs_.end(), [&](const Slab& other) {
                return other.weights && other.weights.get_desc() == wanted;
            });
            if (same != slabs_.end()) {
                slab.weights = same->weights;
                continue;
            }
            slab.weights = memory(wanted, engine_);
            dnnl::reorder(from, slab.weights).execute(stream, from, slab.weights);
            stream.wait();
            weight_bytes_ += static_cast<std::int64_t>(wanted.get_size());
        }
        AlignedVector<float>().swap(plain_);
    }

    std::int64_t parts() const { return samples_ * std::ssize(slabs_); }

    std::int64_t source_bytes() const {
        return rounded_up(static_cast<std::int64_t>(descriptor_.src_desc().get_size()), 64);
    }

    ConvSpec spec_;
    dnnl::engine engine_;
    OperandTypes types_;
    Formulation form_;
    dnnl::convolution_forward::primitive_desc descriptor_; ///< of the whole convolution
    std::int64_t samples_ = 1;                             ///< that are convolved separately
    std::vector<Slab> slabs_;                              ///< of one sample
    std::int64_t part_workspace_bytes_ = 0;
    std::int64_t weight_bytes_ = 0;
    AlignedVector<float> plain_; ///< the weights in plain order, until they are reordered
    AlignedVector<float> bias_;
    std::vector<float> scales_; ///< of int8, per output channel
    OpArguments arguments_;
    float* padded_ = nullptr;
    std::byte* converted_ = nullptr;
    std::vector<PartRun> runs_; ///< slabs of one sample after the other
};

} // namespace

std::unique_ptr<InferenceOp> make_conv(const ConvSpec& spec, const dnnl::engine& engine) {
    return std::make_unique<ConvOp>(spec, engine);
}

std::unique_ptr<InferenceOp> make_conv(const OpContext& context, const FusedOp& op, bool residual_in_output) {
    const Node& node = context.main(op);
    ConvSpec spec;
    spec.conv = node.as<Conv>();
    spec.in = context.input_shape(op, 0);
    spec.out = node.shape;
    spec.weights = &context.parameter(node, 0);
    spec.bias = spec.conv.bias ? &context.parameter(node, 1) : nullptr;
    spec.residual = op.residual.has_value();
    spec.residual_in_output = residual_in_output;
    spec.activation = op.activation;
    spec.threads = context.threads;
    spec.low_precision = context.low_precision.of_node[static_cast<std::size_t>(op.main)];
    if (!spec.low_precision) {
        const kernels::ConvolutionSpec own{spec.conv, spec.in,         spec.out,    spec.weights,
                                           spec.bias, spec.activation, spec.threads};
        if (auto reduced = kernels::make_reduced_convolution(own))
            return reduced;
    }
    return make_conv(spec, context.engine);
}

bool has_compiled_kernel(const ConvSpec& spec, const dnnl::engine& engine) {
    try {
        std::vector<float> scales;
        if (spec.low_precision && spec.low_precision->source.integer())
            scales.assign(static_cast<std::size_t>(spec.conv.out_channels), 1.0F);
        return choose(spec, scales, engine).speed == Speed::compiled;
    } catch (const dnnl::error&) {
        return false;
    }
}

} // namespace mfres::onednn
