// SPDX-License-Identifier: MIT
// How long a case takes from run to run, and how long a cancelled one goes on. Prints JSON. See docs/embedding.md.
//   latency MODEL [--size N] [--runs N] [--cancels N] [--threads N] [--backend NAME]
// The case is a synthetic head of N x N x N voxels in memory; `network_size` is what the network sees of it.
#include "core/json_value.h"
#include "phantom/phantom.h"

#include <mfres/predictor.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <map>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

double milliseconds(Clock::time_point since) {
    return std::chrono::duration<double, std::milli>(Clock::now() - since).count();
}

mfres::Json spread(std::vector<double> times) {
    if (times.empty())
        return nullptr;
    std::sort(times.begin(), times.end());
    const auto at = [&](double share) {
        return times[static_cast<std::size_t>(std::lround(share * static_cast<double>(times.size() - 1)))];
    };
    return {{"count", times.size()}, {"min", at(0.0)},  {"median", at(0.5)},
            {"p95", at(0.95)},       {"p99", at(0.99)}, {"max", at(1.0)}};
}

int failed(const mfres::Error& error) {
    std::fprintf(stderr, "%s\n", error.message.c_str());
    return 1;
}

int measure(const std::string& model, std::map<std::string, std::string> options) {
    const auto number = [&](const char* name, int otherwise) {
        return options.count(name) != 0 ? std::stoi(options[name]) : otherwise;
    };
    const std::int64_t edge = number("--size", 176);
    mfres::PredictorOptions setup;
    setup.keep_memory = true;
    setup.compute.threads = number("--threads", 0);
    if (options.count("--backend") != 0)
        setup.compute.backend = options["--backend"];
    auto predictor = mfres::Predictor::open(model, setup);
    if (!predictor)
        return failed(predictor.error());
    const auto phantom = mfres::make_phantom({.seed = 1, .size = {edge, edge, edge}, .threads = setup.compute.threads});
    if (!phantom)
        return failed(phantom.error());
    mfres::CaseVolumes volumes;
    for (std::size_t m = 0; m < 4; ++m)
        volumes.volumes[m] = mfres::VolumeView::of(phantom->volumes[m]);

    mfres::Prediction result;
    const auto predict = [&] { return predictor->predict_into(result, volumes); };
    auto start = Clock::now();
    if (const auto status = predict(); !status)
        return failed(status.error());
    const double first = milliseconds(start);
    // A second model of the same kind, warmed up for the brain that the first one saw.
    auto warmed = mfres::Predictor::open(model, setup);
    if (!warmed)
        return failed(warmed.error());
    start = Clock::now();
    if (const auto status = warmed->warm_up(result.report.brain_box_size); !status)
        return failed(status.error());
    const double warm_up = milliseconds(start);
    start = Clock::now();
    if (const auto status = warmed->predict(volumes); !status)
        return failed(status.error());
    const double first_warmed = milliseconds(start);

    std::vector<double> times;
    for (int run = 0; run < number("--runs", 1000); ++run) {
        start = Clock::now();
        if (const auto status = predict(); !status)
            return failed(status.error());
        times.push_back(milliseconds(start));
    }
    const mfres::Json cases = spread(std::move(times));
    const double typical = cases.is_null() ? first : cases["median"].get<double>();

    // Cancelled at times spread evenly over a case, in an order that hops about.
    std::vector<double> goes_on;
    std::map<std::string, double> longest;
    const int cancels = number("--cancels", 200);
    for (int n = 0; n < cancels; ++n) {
        const double share = (static_cast<double>((n * 61) % cancels) + 0.5) / static_cast<double>(cancels);
        Clock::time_point cancelled;
        std::thread other([&] {
            std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(share * typical));
            cancelled = Clock::now();
            predictor->cancel();
        });
        const auto status = predict();
        const auto end = Clock::now();
        other.join();
        if (status || status.error().code != mfres::ErrorCode::interrupted)
            continue; // the case was complete before
        const double lasted = std::chrono::duration<double, std::milli>(end - cancelled).count();
        goes_on.push_back(lasted);
        double& most = longest[status.error().where];
        most = std::max(most, lasted);
    }
    const auto& report = result.report;
    const mfres::Json all = {{"engine", report.used.engine},
                             {"threads", report.used.threads},
                             {"network", report.network},
                             {"network_size", report.network_size},
                             {"first_case_ms", first},
                             {"warm_up_ms", warm_up},
                             {"first_case_after_warm_up_ms", first_warmed},
                             {"case_ms", cases},
                             {"cancel_ms", spread(goes_on)},
                             {"cancel_longest_ms_by_stage", longest}};
    std::printf("%s\n", all.dump(2).c_str());
    return 0;
}

} // namespace

int main(int count, char** arguments) {
    std::map<std::string, std::string> options;
    for (int n = 2; n + 1 < count; n += 2)
        options[arguments[n]] = arguments[n + 1];
    if (count < 2 || count % 2 != 0) {
        std::fprintf(stderr,
                     "usage: latency MODEL [--size N] [--runs N] [--cancels N] [--threads N] [--backend NAME]\n");
        return 2;
    }
    return measure(arguments[1], options);
}
