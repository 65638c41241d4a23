module gocker/step03-layers

go 1.26.5
