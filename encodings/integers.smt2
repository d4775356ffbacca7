; The integers of every definition: two's complement at the width of the hardware.
; Widths stand in this file and nowhere else, so that a proof can be tried at smaller ones (8 and 16 bits for 32 and 64, say).

; An accumulator, and everything else that is one number of a layer: inputs, weights, zero points, levels.
(define-sort Acc () (_ BitVec 32))
; A product of two of them.
(define-sort Wide () (_ BitVec 64))
(define-fun widen ((x Acc)) Wide ((_ sign_extend 32) x))
(define-fun narrow ((x Wide)) Acc ((_ extract 31 0) x))
(define-fun zero () Wide (_ bv0 64))
(define-fun one () Wide (_ bv1 64))
; Fraction bits of a fixed-point multiplier: all bits of an Acc but the sign.
(define-fun q-bits () Wide (_ bv31 64))

(define-fun clamp ((x Wide) (lo Acc) (hi Acc)) Acc
  (ite (bvslt x (widen lo)) lo (ite (bvsgt x (widen hi)) hi (narrow x))))

; Division by 2^s, rounded to the nearest integer; what a half does is the name. s = 0 changes nothing.
(define-fun shift-half-up ((x Wide) (s Wide)) Wide
  (bvashr (bvadd x (bvlshr (bvshl one s) one)) s))
(define-fun shift-half-away ((x Wide) (s Wide)) Wide
  (ite (bvslt x zero) (bvneg (shift-half-up (bvneg x) s)) (shift-half-up x s)))
