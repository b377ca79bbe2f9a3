"""NamedTuples made natively, for results that there are thousands of in one call."""

from cpython.object cimport PyObject, PyTypeObject

cdef extern from "Python.h":
    ctypedef object (*newfunc)(PyTypeObject*, object, PyObject*)
    int Py_tp_new
    PyTypeObject PyTuple_Type
    void* PyType_GetSlot(PyTypeObject*, int)


cdef inline object new_named(object named_tuple, tuple values):
    """Make a NamedTuple of its fields' values.

    This calls tuple's own tp_new, as the `__new__` of a NamedTuple does in the end. A
    lookup in a mapped index takes 250 ns so, against 365 ns with a call of the class.
    """
    cdef newfunc new = <newfunc> PyType_GetSlot(&PyTuple_Type, Py_tp_new)
    return new(<PyTypeObject*> named_tuple, (values,), NULL)
