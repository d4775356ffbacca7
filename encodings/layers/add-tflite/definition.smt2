; uses: requantisations/q31-double/definition.smt2, requantisations/q31-single/definition.smt2
; The addition of TFLite's built-in kernels and of CMSIS-NN: both operands are centred, lifted by 20 bits, brought to a common scale by a
; fixed-point multiplier each, added, and brought to the output's scale by a third. Operands stay below 2^29: nothing overflows.

(define-fun least () Acc (bvneg (_ bv2147483648 32)))
(define-fun greatest () Acc (_ bv2147483647 32))
(define-fun lifted ((x Acc) (x-zero Acc)) Acc (bvshl (bvsub x x-zero) (_ bv20 32)))

(define-fun add-q31-double
    ((a Acc) (b Acc) (a-zero Acc) (b-zero Acc) (qa Acc) (sa Acc) (qb Acc) (sb Acc) (qo Acc) (so Acc)
     (zero-point Acc) (lo Acc) (hi Acc)) Acc
  (requantise-q31-double
    (bvadd (requantise-q31-double (lifted a a-zero) qa sa (_ bv0 32) least greatest)
      (requantise-q31-double (lifted b b-zero) qb sb (_ bv0 32) least greatest))
    qo so zero-point lo hi))

; CMSIS-NN with single rounding.
(define-fun add-q31-single
    ((a Acc) (b Acc) (a-zero Acc) (b-zero Acc) (qa Acc) (sa Acc) (qb Acc) (sb Acc) (qo Acc) (so Acc)
     (zero-point Acc) (lo Acc) (hi Acc)) Acc
  (requantise-q31-single
    (bvadd (requantise-q31-single (lifted a a-zero) qa sa (_ bv0 32) least greatest)
      (requantise-q31-single (lifted b b-zero) qb sb (_ bv0 32) least greatest))
    qo so zero-point lo hi))
