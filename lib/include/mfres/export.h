/* SPDX-License-Identifier: MIT */
/* MFRES_EXPORT marks what a shared library exports. The library is compiled with hidden visibility, so everything
 * without this mark stays inside. */
#ifndef MFRES_EXPORT_H
#define MFRES_EXPORT_H

#if defined(__GNUC__)
#define MFRES_EXPORT __attribute__((visibility("default")))
#else
#define MFRES_EXPORT
#endif

#endif
