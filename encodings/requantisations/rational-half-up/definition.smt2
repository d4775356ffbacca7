; uses: integers.smt2
; floor(acc * numerator / denominator + 1/2) + zero point, over exact rationals: no hardware does this.
; Both are positive; |2 * acc * numerator| + denominator, and 2 * denominator, are below 2^127.
(define-sort Exact () (_ BitVec 128))
(define-fun exact ((x Acc)) Exact ((_ sign_extend 96) x))
(define-fun exact-zero () Exact (_ bv0 128))
(define-fun exact-one () Exact (_ bv1 128))
(define-fun twice ((x Exact)) Exact (bvshl x exact-one))
; bvsdiv rounds towards zero; its remainder has the sign of the dividend.
(define-fun floor-divide ((x Exact) (by Exact)) Exact
  (bvsub (bvsdiv x by) (ite (bvslt (bvsrem x by) exact-zero) exact-one exact-zero)))
(define-fun clamp-exact ((x Exact) (lo Acc) (hi Acc)) Acc
  (ite (bvslt x (exact lo)) lo (ite (bvsgt x (exact hi)) hi ((_ extract 31 0) x))))
(define-fun requantise-rational-half-up ((acc Acc) (numerator Exact) (denominator Exact) (zero-point Acc) (lo Acc) (hi Acc)) Acc
  (clamp-exact
    (bvadd (floor-divide (bvadd (twice (bvmul (exact acc) numerator)) denominator) (twice denominator)) (exact zero-point))
    lo hi))
