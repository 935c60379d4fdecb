// SPDX-License-Identifier: MIT
#include "cli.h"
#include "commands.h"
#include "core/platform.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iomanip>
#include <iostream>
#include <new>

namespace {

using mfres::cli::exit_failure;
using mfres::cli::exit_files;
using mfres::cli::exit_ok;
using mfres::cli::exit_resources;
using mfres::cli::exit_usage;

using mfres::cli::Command;

#ifdef MFRES_WITH_TRAINING
#define MFRES_TRAINING_COMMAND(name) mfres::cli::name
#else
#define MFRES_TRAINING_COMMAND(name) nullptr
#endif

constexpr Command command_table[] = {
    {"segment", "brain tumour labels from T1, T1ce, T2 and FLAIR volumes", mfres::cli::segment},
    {"train", "train a network on segmented cases", MFRES_TRAINING_COMMAND(train)},
    {"average", "average the weights of several models or checkpoints", MFRES_TRAINING_COMMAND(average)},
    {"experiment", "repeat the paper's comparisons of losses and networks on your cases",
     MFRES_TRAINING_COMMAND(experiment)},
    {"check", "check cases for everything that segment would reject", mfres::cli::check},
    {"evaluate", "Dice, sensitivity, specificity and HD95 against reference labels", mfres::cli::evaluate},
    {"robustness", "how labels change when a case is shifted, cropped, mirrored or made noisy",
     MFRES_TRAINING_COMMAND(robustness)},
    {"complexity", "parameters, FLOPs and memory of networks and variants", mfres::cli::complexity},
    {"bench", "time a network on this machine, in total or per op", mfres::cli::bench},
    {"probe", "measure this machine, to predict times of networks", MFRES_TRAINING_COMMAND(probe)},
    {"init", "write a model file with seeded random weights", mfres::cli::init},
    {"info", "show the content of a model file or training cache", mfres::cli::info},
    {"convert", "convert models between safetensors, ONNX and PyTorch; export checkpoints",
     MFRES_TRAINING_COMMAND(convert)},
    {"phantom", "write a synthetic case for trials", mfres::cli::phantom},
    {"cache", "pack labelled cases into a training cache", MFRES_TRAINING_COMMAND(cache)},
    {"selftest", "check whether this installation computes what it should", mfres::cli::selftest},
    {"completion", "print a script with which a shell completes commands and options", mfres::cli::completion},
    {"manual", "print or write manual pages", mfres::cli::manual},
};

constexpr mfres::cli::ExitCodeText exit_code_table[] = {
    {"0", "done"},
    {"1", "a bug in mfres, or a training that diverged"},
    {"2", "unknown or contradicting options"},
    {"3", "the images, or a table of measurements, were rejected"},
    {"4", "the model file or network variant was rejected"},
    {"5", "not enough memory, or a backend failed or is missing"},
    {"6", "a file could not be found, read or written, or standard output could not be written"},
    {"130", "interrupted"},
};

void help(std::ostream& out) {
    out << "mfres " << mfres::version() << ": brain tumour segmentation with MF-RES2Net on ordinary machines\n\n"
        << "Usage: mfres <command> [options]\n\nCommands:\n";
    for (const Command& command : command_table)
        if (command.run != nullptr)
            out << "  " << std::left << std::setw(11) << command.name << ' ' << command.summary << '\n';
    out << "  help        this text; 'mfres help <command>' shows options and examples\n\nBackends in this build:\n";
    for (const auto& backend : mfres::available_backends())
        out << "  " << std::left << std::setw(11) << backend.name << ' ' << backend.engine << '\n';
    out << "\nExit codes:\n";
    for (const auto& [code, meaning] : exit_code_table)
        out << "  " << std::left << std::setw(11) << code << ' ' << meaning << '\n';
    out << "\nResearch use only: not a medical device.\n";
}

/// The exit code once all that was printed has been written: a result that did not arrive is an error.
int finish(int code) {
    std::cout.flush();
    // Not good(): ranks that do not speak set failbit, a write that fails sets badbit.
    const bool written = !std::cout.bad() && std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
    if (written || code != exit_ok)
        return code;
    std::cerr << "mfres: error [file_write]: standard output could not be written; it is closed, or its disk is full\n";
    return exit_files;
}

int lacking(const std::vector<std::string>& arguments) {
    const bool json = std::find(arguments.begin(), arguments.end(), "--json") != arguments.end();
    return mfres::cli::fail({mfres::ErrorCode::operation_unsupported,
                             "this build of mfres has no '" + arguments[0] +
                                 "'; use one that was configured with MFRES_WITH_TRAINING=ON, as the preset release is",
                             arguments[0]},
                            json);
}

int run(const std::vector<std::string>& arguments) {
    if (arguments.empty()) {
        help(std::cerr);
        return exit_usage;
    }
    const std::string& name = arguments[0];
    if (name == "help" && arguments.size() > 1 && arguments[1].front() != '-')
        return run({arguments[1], "--help"}); // of one command
    if (name == "help" || name == "--help" || name == "-h") {
        help(std::cout);
        return exit_ok;
    }
    if (name == "--version" || name == "version") {
        std::cout << "mfres " << mfres::version() << '\n';
        return exit_ok;
    }
    for (const Command& command : command_table)
        if (name == command.name)
            return command.run != nullptr ? command.run({arguments.begin() + 1, arguments.end()}) : lacking(arguments);
    std::vector<std::string> known{"help"};
    for (const Command& command : command_table)
        known.emplace_back(command.name);
    return mfres::cli::usage_error("there is no command '" + name + "'" + mfres::cli::did_you_mean(name, known));
}

} // namespace

std::span<const Command> mfres::cli::commands() {
    return command_table;
}

std::span<const mfres::cli::ExitCodeText> mfres::cli::exit_codes() {
    return exit_code_table;
}

int main(int argc, char** argv) {
    if (!mfres::platform::prepare_program())
        std::_Exit(exit_files);
    try {
        return finish(run(mfres::platform::arguments(argc, argv)));
    } catch (const std::bad_alloc&) {
        std::cerr << "mfres: error [memory_limit]: out of memory\n";
        return exit_resources;
    } catch (const std::exception& error) {
        std::cerr << "mfres: error [internal]: " << error.what() << '\n';
        return exit_failure;
    }
}
