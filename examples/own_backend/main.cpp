// SPDX-License-Identifier: MIT
// A backend from outside mfres: registered at run time, it runs networks of models that are opened with its name.
//   own_backend MODEL T1.nii T1CE.nii T2.nii FLAIR.nii LABELS.raw
// This one has the reference backend compute and counts what is computed; an engine of your own does the same five
// things: it says what it cannot run, takes graph and weights, gives memory for the input, runs, shows the output.
#include "../volumes.h"

#include <backends/backend.h>

#include <cstdio>
#include <utility>

namespace {

/// What all networks have computed so far.
struct Tally {
    int runs = 0;
    long ops = 0;
};

class CountedExecutable final : public mfres::Executable {
  public:
    CountedExecutable(std::unique_ptr<mfres::Executable> inner, Tally& tally)
        : inner_(std::move(inner)), tally_(tally) {}

    mfres::StridedView<float> input() override { return inner_->input(); }

    mfres::Status run(const mfres::RunObserver& observer) override {
        ++tally_.runs;
        return inner_->run([&](int done, int total) {
            ++tally_.ops;
            return !observer || observer(done, total);
        });
    }

    mfres::StridedView<const float> output(std::size_t index) const override { return inner_->output(index); }
    std::int64_t peak_bytes() const override { return inner_->peak_bytes(); }
    std::vector<mfres::Chosen> chosen() const override { return inner_->chosen(); }

  private:
    std::unique_ptr<mfres::Executable> inner_;
    Tally& tally_;
};

class CountingBackend final : public mfres::Backend {
  public:
    CountingBackend(const mfres::Backend& inner, Tally& tally) : inner_(inner), tally_(tally) {}

    std::string_view name() const override { return "counting"; }
    std::string description() const override { return "counting " + inner_.description(); }

    std::vector<mfres::Unsupported> unsupported(const mfres::Graph& graph,
                                                const mfres::CompileOptions& options) const override {
        // f32 only, and no choice but deterministic: a backend names every node that it cannot run, and why.
        auto rejected = mfres::unsupported_arithmetic(graph, options);
        for (const mfres::Node& node : graph.nodes())
            if (node.kind() == mfres::OpKind::adaptive_avg_pool)
                rejected.push_back({node.name, "this backend has no adaptive pooling"});
        return rejected;
    }

  protected:
    mfres::Result<std::unique_ptr<mfres::Executable>>
    make_executable(const mfres::Graph& graph, const mfres::Weights& weights,
                    const mfres::CompileOptions& options) const override {
        auto inner = inner_.compile(graph, weights, options);
        if (!inner)
            return inner.error();
        return std::unique_ptr<mfres::Executable>(
            std::make_unique<CountedExecutable>(std::move(inner).value(), tally_));
    }

  private:
    const mfres::Backend& inner_;
    Tally& tally_;
};

} // namespace

int main(int count, char** arguments) {
    if (count != 7) {
        std::fprintf(stderr, "usage: own_backend MODEL T1.nii T1CE.nii T2.nii FLAIR.nii LABELS.raw\n");
        return 2;
    }
    const auto volumes = read_volumes(arguments + 2);
    if (!volumes)
        return 6;
    const auto reference = mfres::find_backend("reference");
    if (!reference)
        return failed(reference.error());
    static Tally tally;
    static const CountingBackend backend(**reference, tally); // it must outlive every model
    if (const auto added = mfres::add_backend(backend); !added)
        return failed(added.error());

    mfres::PredictorOptions options;
    options.compute.backend = "counting";
    auto predictor = mfres::Predictor::open(arguments[1], options);
    if (!predictor)
        return failed(predictor.error());
    const auto prediction = predictor->predict(volumes->views);
    if (!prediction)
        return failed(prediction.error());
    std::printf("%s ran %d times, %ld ops in all\n", prediction->report.used.engine.c_str(), tally.runs, tally.ops);
    if (tally.runs == 0 || tally.ops == 0)
        return 1;
    return write_bytes(arguments[6], prediction->labels.labels.data(), prediction->labels.labels.size()) == 0 ? 0 : 6;
}
