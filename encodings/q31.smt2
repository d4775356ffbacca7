; uses: integers.smt2
; The high half of the doubled product of an accumulator and the multiplier mantissa * 2^(shift - 31), before any right shift:
; (acc * 2^max(shift, 0) * mantissa + 2^30) >> 31.

(define-fun left ((shift Acc)) Wide
  (ite (bvsgt (widen shift) zero) (widen shift) zero))
(define-fun right ((shift Acc)) Wide
  (ite (bvslt (widen shift) zero) (bvneg (widen shift)) zero))
(define-fun high-half ((acc Acc) (mantissa Acc) (shift Acc)) Wide
  (shift-half-up (bvmul (bvshl (widen acc) (left shift)) (widen mantissa)) q-bits))
