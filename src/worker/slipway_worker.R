# Serves an R model package: Rscript slipway_worker.R [DIRECTORY]
#
# DIRECTORY (default: the working directory) holds model.R with init() and predict(text), which returns one
# string, and perhaps warmup(). The gateway's socket, the replica's id and its key come from the environment.
# Base R is enough.

FAILED <- 1L

arguments <- commandArgs(trailingOnly = FALSE)
script <- sub("^--file=", "", grep("^--file=", arguments, value = TRUE))[1]
directory <- c(commandArgs(trailingOnly = TRUE), ".")[1]
library_path <- file.path(dirname(normalizePath(script)), "libslipway-worker.so")
dyn.load(library_path)

hello <- .C("slipway_r_hello", runtime = paste("R", getRversion()), status = 0L)
if (hello$status < 0) quit(status = 1)

load_model <- function() {
  setwd(directory)
  model <- new.env(parent = globalenv())
  sys.source("model.R", envir = model)
  for (name in c("init", "predict")) {
    if (!is.function(model[[name]])) stop(sprintf("model.R does not define %s()", name))
  }
  model$init()
  if (is.function(model[["warmup"]])) model$warmup()
  model
}

model <- tryCatch(load_model(), error = function(e) {
  message("Error: ", conditionMessage(e))
  .C("slipway_r_failed", paste0("error: ", conditionMessage(e)))
  quit(status = 1)
})
invisible(.C("slipway_r_ready", 0L))

answer_one <- function(text) {
  answer <- model$predict(text)
  if (!is.character(answer) || length(answer) != 1 || is.na(answer)) {
    stop("predict() must return one string, not ", class(answer)[1], " of length ", length(answer))
  }
  list(enc2utf8(answer), 0L)
}

repeat {
  request <- .C("slipway_r_take", text = "", status = 0L)
  if (request$status == 0L) break
  Encoding(request$text) <- "UTF-8"
  answer <- tryCatch(answer_one(request$text), error = function(e) {
    message("Error in predict(): ", conditionMessage(e))
    list(enc2utf8(paste0("error: ", conditionMessage(e))), FAILED)
  })
  invisible(.C("slipway_r_answer", answer[[1]], answer[[2]]))
}
