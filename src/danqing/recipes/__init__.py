"""How each set of shipped weights is made: each module without an underscore is a recipe."""

from danqing.recipes._recipe import TrainRequest as TrainRequest
from danqing.recipes._recipe import check_name as check_name
from danqing.recipes._recipe import open_recipe as open_recipe
from danqing.recipes._recipe import summaries as summaries
