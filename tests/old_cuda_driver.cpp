// A libcuda.so.1 that tells the CUDA runtime that the driver is of CUDA 10.2, and does no more.
#include <cstring>

extern "C" int cuGetProcAddress_v2(const char* name, void** function, int, unsigned long long, int*) {
  constexpr auto version = [](int* to) { return *to = 10020, 0; };
  constexpr auto success = [] { return 0; };
  constexpr auto not_found = [] { return 500; };
  *function = reinterpret_cast<void*>(+success);
  if (!std::strcmp(name, "cuGetProcAddress")) *function = reinterpret_cast<void*>(cuGetProcAddress_v2);
  if (!std::strcmp(name, "cuDriverGetVersion")) *function = reinterpret_cast<void*>(+version);
  if (!std::strcmp(name, "cuGetExportTable")) *function = reinterpret_cast<void*>(+not_found);
  return 0;
}
