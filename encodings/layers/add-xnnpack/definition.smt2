; uses: integers.smt2
; XNNPACK's addition, in 32 bits: one sum, one arithmetic shift. ma and mb are below 2^22; bias holds the zero points of the
; operands and half a unit, 2^(shift-1), so that the shift rounds half up.
(define-fun add-shift
    ((a Acc) (b Acc) (ma Acc) (mb Acc) (bias Acc) (shift Acc) (zero-point Acc) (lo Acc) (hi Acc)) Acc
  (clamp (bvadd (widen (bvashr (bvadd bias (bvadd (bvmul ma a) (bvmul mb b))) shift)) (widen zero-point)) lo hi))
