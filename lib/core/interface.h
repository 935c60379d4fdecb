// SPDX-License-Identifier: MIT
// The base of classes that are used through a pointer to their interface.
#pragma once

namespace mfres {

/// Destroyed through a pointer to the interface; neither copied nor moved.
class Interface {
  public:
    Interface(const Interface&) = delete;
    Interface& operator=(const Interface&) = delete;
    virtual ~Interface() = default;

  protected:
    Interface() = default;
};

} // namespace mfres
