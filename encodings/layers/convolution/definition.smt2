; uses: layers/dense/definition.smt2
; A convolution is a dense neuron at every position of its window; a padded position holds the input's zero point.

; One channel, kernel 2x2, weights w00 w01 / w10 w11 in row-major order.
(define-fun window-2x2
    ((x00 Acc) (x01 Acc) (x10 Acc) (x11 Acc) (input-zero Acc)
     (w00 Acc) (w01 Acc) (w10 Acc) (w11 Acc) (weight-zero Acc) (bias Acc)) Acc
  (bvadd bias
    (bvadd (product x00 input-zero w00 weight-zero)
      (bvadd (product x01 input-zero w01 weight-zero)
        (bvadd (product x10 input-zero w10 weight-zero)
          (product x11 input-zero w11 weight-zero))))))

; The upper left output of a 2x2 image padded by one row above and one column to the left: three of four positions are padding.
(define-fun padded-corner-2x2
    ((x Acc) (input-zero Acc) (w00 Acc) (w01 Acc) (w10 Acc) (w11 Acc) (weight-zero Acc) (bias Acc)) Acc
  (window-2x2 input-zero input-zero input-zero x input-zero w00 w01 w10 w11 weight-zero bias))
