#include "backends/cuda/operations.h"

#include "core/try.h"

#include <cmath>

namespace mfres::cuda {

namespace {

class Maker {
  public:
    Maker(const Compilation& compilation, const Step& step)
        : c_(compilation), step_(step), node_(compilation.graph.node(step.main)) {}

    /// With everything around it in one kernel if the engine has one, else the convolution alone and a sum behind it.
    Operation conv() const {
        ConvolutionSpec spec;
        spec.conv = node_.as<Conv>();
        spec.in = input_shape(0);
        spec.out = node_.shape;
        spec.type = c_.type;
        spec.bias = spec.conv.bias;
        spec.residual = step_.residual.has_value();
        spec.activation = step_.activation;
        std::shared_ptr<Convolution> convolution = c_.engine.make_convolution(spec, c_.rules);
        const bool fused = convolution != nullptr;
        if (!fused) {
            spec.bias = spec.residual = false;
            spec.activation = Activation();
            convolution = c_.engine.make_convolution(spec, c_.rules);
        }
        if (!convolution)
            throw EngineError(ErrorCode::backend_failed, "no engine computes this convolution");
        const void* weights = packed_weights();
        const float* bias = node_.as<Conv>().bias ? c_.constants.add(values(1)) : nullptr;
        const std::string name = convolution->implementation() + (fused ? "" : ", then mfres:sum");
        return {name, convolution->workspace_bytes(), [=, this_step = *this](const Place& place) {
                    convolution->run(
                        {place.inputs[0], nullptr, weights, bias, place.residual, place.output, place.scratch});
                    if (!fused && (bias || place.residual || this_step.step_.activation.kind != Activation::Kind::none))
                        this_step.finish(bias, place);
                }};
    }

    Operation batch_norm() const {
        std::vector<float> scale, shift;
        for (std::int64_t c = 0; c < node_.shape[1]; ++c) {
            const double factor =
                double{parameter(0)[c]} / std::sqrt(double{parameter(3)[c]} + node_.as<BatchNorm>().epsilon);
            scale.push_back(static_cast<float>(factor));
            shift.push_back(static_cast<float>(double{parameter(1)[c]} - double{parameter(2)[c]} * factor));
        }
        Operand operand;
        operand.factor = c_.constants.add(scale);
        operand.offset = c_.constants.add(shift);
        return sums("batch_norm", {operand}, step_.activation);
    }

    Operation instance_norm() const {
        const Chunking chunks = chunking(node_.shape);
        const std::int64_t tables = chunks.samples * chunks.channels;
        const SumSpace space(chunks, chunks.samples, 2);
        NormTables norm;
        norm.groups = chunks.samples;
        norm.channels = chunks.channels;
        norm.voxels = chunks.voxels;
        norm.epsilon = node_.as<InstanceNorm>().epsilon;
        norm.scale = c_.constants.add(values(0));
        norm.shift = c_.constants.add(values(1));
        const std::int64_t bytes = space.bytes() + tables * (8 + 4 * 4);
        return {"mfres:instance_norm", bytes,
                [=, this_step = *this, activation = step_.activation](const Place& place) mutable {
                    const Engine& engine = this_step.c_.engine;
                    StatisticsArguments statistics;
                    statistics.chunks = chunks;
                    statistics.groups = norm.groups;
                    statistics.x = whole(place.inputs[0], chunks.channels);
                    statistics.partials = reinterpret_cast<double*>(place.scratch);
                    statistics.totals = reinterpret_cast<double*>(place.scratch + space.partials);
                    norm.deviation = reinterpret_cast<double*>(place.scratch + space.bytes());
                    norm.mean = reinterpret_cast<float*>(norm.deviation + tables);
                    norm.factor = norm.mean + tables;
                    norm.offset = norm.factor + tables;
                    statistics.pivot = norm.offset + tables;
                    norm.totals = statistics.totals;
                    norm.pivot = statistics.pivot;
                    engine.kernels().statistics(engine.stream(), this_step.c_.type, statistics);
                    engine.kernels().norm_tables(engine.stream(), norm);
                    Operand operand;
                    operand.x = statistics.x;
                    operand.mean = norm.mean;
                    operand.factor = norm.factor;
                    operand.offset = norm.offset;
                    operand.group_voxels = chunks.voxels;
                    this_step.run_sum({operand}, activation, place.output);
                }};
    }

    Operation activation(const Activation& activation) const { return sums("activation", {Operand()}, activation); }

    Operation add() const { return sums("add", std::vector<Operand>(node_.inputs.size()), step_.activation); }

    Operation scaled_add() const {
        std::vector<Operand> operands(node_.inputs.size());
        for (std::size_t k = 0; k < operands.size(); ++k)
            operands[k].weight = c_.constants.add(values(k));
        return sums("scaled_add", std::move(operands), step_.activation);
    }

    Operation concat() const {
        std::vector<Part> parts;
        std::int64_t to = 0;
        for (std::size_t k = 0; k < node_.inputs.size(); ++k) {
            parts.push_back(read(k));
            parts.back().to = to;
            to += parts.back().count;
        }
        return copies("concat", std::move(parts));
    }

    Operation slice() const {
        Part part = read(0);
        part.from += node_.as<Slice>().begin;
        part.count = node_.shape[1];
        return copies("slice", {part});
    }

    Operation max_pool() const {
        PoolArguments pool = pool_arguments();
        for (std::size_t axis = 0; axis < 3; ++axis) {
            pool.kernel[axis] = node_.as<MaxPool>().kernel[axis];
            pool.stride[axis] = node_.as<MaxPool>().stride[axis];
        }
        return pooling("max_pool", pool, c_.engine.kernels().max_pool);
    }

    Operation adaptive_avg_pool() const {
        return pooling("adaptive_avg_pool", pool_arguments(), c_.engine.kernels().average_pool);
    }

    Operation upsample() const {
        UpsampleArguments arguments;
        arguments.in = extents_of(input_shape(0));
        arguments.out = extents_of(node_.shape);
        arguments.activation = step_.activation;
        const auto tables = upsample_tables(c_.constants, node_.as<Upsample>().mode, input_shape(0), node_.shape);
        std::copy(tables.begin(), tables.end(), arguments.axes);
        return {"mfres:upsample_" + std::string(name(node_.as<Upsample>().mode)), 0,
                [arguments, &engine = c_.engine, type = c_.type](const Place& place) mutable {
                    arguments.x = place.inputs[0];
                    arguments.residual = place.residual;
                    arguments.y = place.output;
                    engine.kernels().upsample(engine.stream(), type, arguments);
                }};
    }

    Operation softmax() const {
        SoftmaxArguments arguments;
        arguments.channels = node_.shape[1];
        arguments.voxels = node_.shape[0] * voxels_of(node_.shape);
        return {"mfres:softmax", 0, [arguments, &engine = c_.engine, type = c_.type](const Place& place) mutable {
                    arguments.x = place.inputs[0];
                    arguments.y = place.output;
                    engine.kernels().softmax(engine.stream(), type, arguments);
                }};
    }

  private:
    const Tensor& parameter(std::size_t index) const { return c_.weights.find(node_.parameters[index].name)->second; }
    std::vector<float> values(std::size_t index) const {
        const auto all = parameter(index).values();
        return {all.begin(), all.end()};
    }
    const Shape& input_shape(std::size_t index) const { return c_.graph.node(node_.inputs[index]).shape; }

    static Part whole(const void* data, std::int64_t channels) { return {data, channels, 0, 0, channels}; }

    /// The channels of an input in the array that it lies in.
    Part read(std::size_t index) const {
        const ChannelRange& range = c_.ranges[static_cast<std::size_t>(node_.inputs[index])];
        return {nullptr, c_.graph.node(range.value).shape[1], range.begin, 0, input_shape(index)[1]};
    }

    const void* packed_weights() const {
        const Tensor& plain = parameter(0);
        const Block staging(c_.engine, plain.elements() * 4);
        c_.engine.upload(staging.data(), plain.data(), staging.bytes());
        void* packed = c_.constants.space(plain.elements() * bytes_of(c_.type));
        c_.engine.kernels().pack_weights(c_.engine.stream(), c_.type, weight_order(plain.shape()), staging.as<float>(),
                                         packed);
        c_.engine.wait();
        return packed;
    }

    void run_sum(const std::vector<Operand>& operands, const Activation& activation, void* output) const {
        SumArguments arguments;
        arguments.activation = activation;
        arguments.voxels = node_.shape[0] * voxels_of(node_.shape);
        arguments.channels = node_.shape[1];
        arguments.y = output;
        cuda::sum(c_.engine, c_.type, arguments, operands);
    }

    /// y = activation(y + bias + residual)
    void finish(const float* bias, const Place& place) const {
        std::vector<Operand> operands(1);
        operands[0].x = whole(place.output, node_.shape[1]);
        operands[0].offset = bias;
        if (place.residual)
            operands.emplace_back().x = whole(place.residual, node_.shape[1]);
        run_sum(operands, step_.activation, place.output);
    }

    Operation sums(const std::string& name, std::vector<Operand> operands, const Activation& activation) const {
        for (std::size_t k = 0; k < operands.size(); ++k)
            operands[k].x = read(k);
        return {"mfres:" + name, 0, [=, this_step = *this](const Place& place) mutable {
                    for (std::size_t k = 0; k < operands.size(); ++k)
                        operands[k].x.data = place.inputs[k];
                    this_step.run_sum(operands, activation, place.output);
                }};
    }

    Operation copies(const std::string& name, std::vector<Part> parts) const {
        return {"mfres:" + name, 0,
                [parts = std::move(parts), &engine = c_.engine, type = c_.type,
                 chunks = chunking(node_.shape)](const Place& place) mutable {
                    for (std::size_t k = 0; k < parts.size(); ++k)
                        parts[k].data = place.inputs[k];
                    gather(engine, type, chunks, parts, place.output);
                }};
    }

    PoolArguments pool_arguments() const {
        PoolArguments pool;
        pool.in = extents_of(input_shape(0));
        pool.out = extents_of(node_.shape);
        return pool;
    }

    Operation pooling(const std::string& name, PoolArguments pool,
                      void (*kernel)(Stream, ElementType, const PoolArguments&)) const {
        return {"mfres:" + name, 0, [=, &engine = c_.engine, type = c_.type](const Place& place) mutable {
                    pool.x = place.inputs[0];
                    pool.y = place.output;
                    kernel(engine.stream(), type, pool);
                }};
    }

    const Compilation& c_;
    Step step_;
    const Node& node_;
};

} // namespace

Operation make_operation(const Compilation& compilation, const Step& step) {
    const Maker make(compilation, step);
    const Node& node = compilation.graph.node(step.main);
    switch (node.kind()) {
    case OpKind::input: break; // no step computes it
    case OpKind::conv: return make.conv();
    case OpKind::batch_norm: return make.batch_norm();
    case OpKind::instance_norm: return make.instance_norm();
    case OpKind::relu: return make.activation({Activation::Kind::relu, 0.0F});
    case OpKind::leaky_relu:
        return make.activation({Activation::Kind::leaky_relu, static_cast<float>(node.as<LeakyRelu>().slope)});
    case OpKind::add: return make.add();
    case OpKind::scaled_add: return make.scaled_add();
    case OpKind::concat: return make.concat();
    case OpKind::slice: return make.slice();
    case OpKind::max_pool: return make.max_pool();
    case OpKind::adaptive_avg_pool: return make.adaptive_avg_pool();
    case OpKind::upsample: return make.upsample();
    case OpKind::softmax: return make.softmax();
    }
    return {};
}

} // namespace mfres::cuda
