/// Bodies of io/ for tttlib::compiled.
#include "tttlib/io/safetensors-inl.hpp"
