// SPDX-License-Identifier: MIT
// The OpenCV DNN backend: the network's inference form, lowered to operations on planes (graph/lower.h), as a network
// of OpenCV's own layers. OpenCV has no 5-D resampling and its 3-D convolutions are slow; on planes it needs neither.
#include "backends/backend.h"
#include "backends/opencv/layers.h"
#include "core/module.h"
#include "core/parallel.h"
#include "core/try.h"
#include "graph/lower.h"
#include "graph/rewrite.h"

#include <opencv2/core/utility.hpp>

#include <limits>
#include <new>

namespace mfres::opencv {

namespace {

/// Runs `body` and turns what OpenCV throws into an error.
template <typename Body>
Status guarded(const char* doing, const Body& body) {
    try {
        body();
        return {};
    } catch (const cv::Exception& error) {
        const bool memory = error.code == cv::Error::StsNoMem;
        return Error{memory ? ErrorCode::memory_limit : ErrorCode::backend_failed,
                     text("OpenCV failed ", doing, ": ", error.err), error.func};
    } catch (const std::bad_alloc&) {
        return Error{ErrorCode::memory_limit, text("no memory was left ", doing, " with the opencv backend"), {}};
    } catch (const std::exception& error) {
        return Error{ErrorCode::backend_failed, text("OpenCV failed ", doing, ": ", error.what()), {}};
    }
}

/// OpenCV keeps one number of threads for the whole process; while this lives it is `threads`.
class ThreadScope {
  public:
    explicit ThreadScope(int threads) : before_(cv::getNumThreads()) { cv::setNumThreads(threads); }
    ~ThreadScope() { cv::setNumThreads(before_); }
    ThreadScope(const ThreadScope&) = delete;
    ThreadScope& operator=(const ThreadScope&) = delete;

  private:
    int before_;
};

/// A batch of planes [batch * x, channel, y, z] seen as [batch, channel, x, y, z].
template <typename T>
StridedView<T> as_volume(T* data, const Shape& volume) {
    const std::int64_t plane = volume[3] * volume[4];
    return {data, volume, {volume[2] * volume[1] * plane, plane, volume[1] * plane, volume[4], 1}};
}

class OpenCvExecutable final : public Executable {
  public:
    OpenCvExecutable(const Graph& graph, plain::Program program, int threads)
        : program_(std::move(program)), threads_(threads), input_shape_(graph.node(graph.input()).shape),
          input_(program_.input) {
        for (const NodeId output : graph.outputs())
            output_shapes_.push_back(graph.node(output).shape);
    }

    Status build() {
        return guarded("building the network", [&] {
            layers_ = make_layers(program_);
#if CV_VERSION_MAJOR > 4 || (CV_VERSION_MAJOR == 4 && CV_VERSION_MINOR >= 7)
            layers_.net.enableWinograd(false); // costs three decimal digits
#endif
            std::vector<int> extents(program_.input.begin(), program_.input.end());
            layers_.net.setInput(cv::Mat(extents, CV_32F, input_.data()));
        });
    }

    StridedView<float> input() override {
        return as_volume(input_.data(), input_shape_);
    }

    using Executable::run;
    /// OpenCV runs a network in one call, so the observer hears of it at the end only.
    Status run(const RunObserver& observer) override {
        MFRES_CHECK(guarded("running the network", [&] {
            const ThreadScope scope(threads_);
            const std::vector<int> extents(program_.input.begin(), program_.input.end());
            layers_.net.setInput(cv::Mat(extents, CV_32F, input_.data()));
            std::vector<cv::String> names(layers_.outputs.begin(), layers_.outputs.end());
            results_.clear();
            layers_.net.forward(results_, names);
            for (cv::Mat& result : results_)
                if (!result.isContinuous() || result.type() != CV_32F)
                    result = result.clone();
        }));
        for (std::size_t i = 0; i < output_shapes_.size(); ++i)
            if (results_[i].total() != static_cast<std::size_t>(output_shapes_[i].elements()))
                return Error{ErrorCode::backend_failed,
                             text("OpenCV made ", results_[i].total(), " values of output ", i, ", which is ",
                                  to_string(output_shapes_[i])),
                             layers_.outputs[i]};
        if (observer && !observer(1, 1))
            return Error{ErrorCode::interrupted, "stopped after the network had run", {}};
        return {};
    }

    StridedView<const float> output(std::size_t index) const override {
        return as_volume(results_[index].ptr<const float>(), output_shapes_[index]);
    }

    std::int64_t peak_bytes() const override {
        std::int64_t constants = 0;
        for (const plain::Constant& constant : program_.constants)
            constants += constant.values.elements();
        // Convolutions keep an aligned copy of their weights, and the network a copy of the input.
        const std::int64_t own = 2 * constants + input_.elements();
        return own * static_cast<std::int64_t>(sizeof(float)) + value_bytes(program_);
    }

    std::vector<Chosen> chosen() const override {
        std::vector<Chosen> all;
        for (std::size_t i = 0; i < program_.steps.size(); ++i)
            all.push_back({program_.steps[i].name, layers_.types[i], "opencv:" + layers_.types[i]});
        return all;
    }

  private:
    plain::Program program_;
    int threads_;
    Shape input_shape_;
    std::vector<Shape> output_shapes_;
    Tensor input_; ///< planes
    Layers layers_;
    std::vector<cv::Mat> results_;
};

class OpenCvBackend final : public Backend {
  public:
    std::string_view name() const override { return "opencv"; }
    std::string description() const override { return text("OpenCV DNN ", cv::getVersionString()); }

    std::vector<Unsupported> unsupported(const Graph& graph, const CompileOptions& options) const override {
        constexpr std::int64_t most = std::numeric_limits<int>::max();
        std::vector<Unsupported> rejected = unsupported_arithmetic(graph, options);
        for (const Node& node : graph.nodes())
            if (const auto why = why_not_planes(graph, node))
                rejected.push_back({node.name, *why});
            else if (node.shape.elements() > most)
                rejected.push_back(
                    {node.name, text("it has ", to_string(node.shape), " values, and OpenCV counts them in 32 bits")});
        return rejected;
    }

  protected:
    Result<std::unique_ptr<Executable>> make_executable(const Graph& graph, const Weights& weights,
                                                        const CompileOptions& options) const override {
        try {
            MFRES_TRY(const Network network, inference_form(graph, weights));
            MFRES_TRY(plain::Program program, lower_to_planes(network.graph, network.weights));
            auto executable =
                std::make_unique<OpenCvExecutable>(graph, std::move(program), resolve_threads(options.threads));
            MFRES_CHECK(executable->build());
            return std::unique_ptr<Executable>(std::move(executable));
        } catch (const std::bad_alloc&) {
            return Error{ErrorCode::memory_limit, "no memory was left for the weights of the opencv backend", {}};
        }
    }
};

const OpenCvBackend instance;
const Backend* const table = &instance;

} // namespace

} // namespace mfres::opencv

MFRES_MODULE(mfres::opencv::table)
