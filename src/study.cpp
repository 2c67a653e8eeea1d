// Studies for tttlib::compiled.
#include "tttlib/train/study-inl.hpp"
