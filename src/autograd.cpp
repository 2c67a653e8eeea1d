// The backward sweep, compiled once.
#include "tttlib/autograd/sweep-inl.hpp"
