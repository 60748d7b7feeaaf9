"""The public names, and where each is made; types and the lazy import both come from here."""

# ruff: isort: skip_file

# What a program calls, what it gets, and what can go wrong.
from .api.calls import (
    compare as compare,
    inspect as inspect,
    lint as lint,
    render as render,
)
from .api.mending import fix as fix, quantize as quantize
from .workflow.mending.quantized import Quantized as Quantized
from .workflow.mending.fixed import Fixed as Fixed, RewriteResult as RewriteResult
from .workflow.reading.inspection import (
    InspectedModel as InspectedModel,
    Inspection as Inspection,
)
from .analysis.experiment import LayerSqnr as LayerSqnr
from .execute.data.preprocess import PRESETS as PRESETS, Preprocessing as Preprocessing
from .judge.verdict import Verdict as Verdict, VerdictLevels as VerdictLevels
from .workflow.results import (
    Basis as Basis,
    JointRemedy as JointRemedy,
    LayerRow as LayerRow,
    ModelResult as ModelResult,
    OutputResult as OutputResult,
    SchemeResult as SchemeResult,
    TensorRow as TensorRow,
)
from .workflow.comparison import (
    Comparison as Comparison,
)
from .errors import (
    DataError as DataError,
    DefectError as DefectError,
    ModelError as ModelError,
    OnnxlintError as OnnxlintError,
    PluginError as PluginError,
    UsageError as UsageError,
)

# What a rule is and says.
from .finding import (
    CONFIRM_BELOW_DB as CONFIRM_BELOW_DB,
    Claim as Claim,
    Confidence as Confidence,
    Conversion as Conversion,
    Cure as Cure,
    Divisors as Divisors,
    Evidence as Evidence,
    Finding as Finding,
    Location as Location,
    Metric as Metric,
    Remasking as Remasking,
    Remedy as Remedy,
    Requantisation as Requantisation,
    Rescaling as Rescaling,
    Severity as Severity,
    Silence as Silence,
    Subject as Subject,
    TensorRange as TensorRange,
)
from .judge.rule import Example as Example, Rule as Rule, Weights as Weights, option as option

from .proof.testing import check_examples as check_examples

# What a rule sees of a model.
from .judge.facts import Facts as Facts
from .graph import (
    Format as Format,
    Layer as Layer,
    Model as Model,
    Node as Node,
    QuantizedTensor as QuantizedTensor,
    Role as Role,
    Trait as Trait,
    followed_by as followed_by,
    preceded_by as preceded_by,
    trace_back as trace_back,
    trace_forward as trace_forward,
)
from .graph.element_types import FLOATS as FLOATS
from .graph.model import ROOT as ROOT
from .graph.operators import TRAINERS as TRAINERS, Product as Product
from .graph.codes.definition import has_packed_weight as has_packed_weight, wrong_attributes as wrong_attributes
from .graph.stored.packed import shape_demands as shape_demands

# What is measured of its weights and of its quantised form.
from .analysis.causes.masks import Mask as Mask
from .analysis.statistics import LayerFacts as LayerFacts
from .analysis.folding import BatchNorm as BatchNorm, Blocker as Blocker
from .analysis.schemes import (
    INT8_PER_CHANNEL as INT8_PER_CHANNEL,
    INT8_PER_TENSOR as INT8_PER_TENSOR,
    PER_CHANNEL_OPSET as PER_CHANNEL_OPSET,
    SCHEMES as SCHEMES,
    Scheme as Scheme,
)
from .analysis.number_formats import OVERFLOWN_DB as OVERFLOWN_DB, UINT8 as UINT8, sqnr_db as sqnr_db
from .analysis.grid import Grid as Grid, grid as grid
from .analysis.causes.chain import (
    constant_channels as constant_channels,
    widest_over_median as widest_over_median,
)
from .analysis.causes.gains import (
    EPSILONS as EPSILONS,
    SHARE_OF_MEDIAN as SHARE_OF_MEDIAN,
    Gains as Gains,
    compare_gains as compare_gains,
)
from .analysis.causes.guards import Guard as Guard, find_guards as find_guards
from .analysis.causes.joined import Joined as Joined, joined_branches as joined_branches
from .analysis.causes.known_ranges import KnownRanges as KnownRanges, Range as Range
from .analysis.causes.outlier_channels import (
    Outliers as Outliers,
    outlier_channels as outlier_channels,
    sharing as sharing,
)
from .analysis.causes.hearing import Hearing as Hearing, hearing as hearing
from .analysis.steps import CodesKept as CodesKept
from .analysis.placement import (
    clashing_copies as clashing_copies,
    is_quantized as is_quantized,
    turned_again as turned_again,
)
from .analysis.preparation import KEEPS as KEEPS, preparation as preparation, removed_for_good as removed_for_good

# What is foreseen.
from .forecast.forecast import Forecast as Forecast, TensorNoise as TensorNoise

# What a run saw: data, activations, costs, two files side by side.
from .analysis.observed.observations import (
    ChannelObservation as ChannelObservation,
    TensorObservation as TensorObservation,
)
from .analysis.observed.costs import (
    MOST as MOST,
    SchemeCosts as SchemeCosts,
    TensorCost as TensorCost,
)
from .analysis.observed.data_summary import (
    DataSummary as DataSummary,
    ImageSummary as ImageSummary,
    InputSummary as InputSummary,
    Patches as Patches,
)
from .analysis.observed.compared import (
    INHERITED_DB as INHERITED_DB,
    JUMP_DB as JUMP_DB,
    Compared as Compared,
    ComparedRow as ComparedRow,
)
from .analysis.observed.readings import (
    BiasReading as BiasReading,
    MissingActivation as MissingActivation,
    ParameterReading as ParameterReading,
    PartReading as PartReading,
    QparamsReading as QparamsReading,
    WeightReading as WeightReading,
)
from .analysis.observed.unprepared import Unprepared as Unprepared
from .analysis.observed.deployed import Deployed as Deployed, Differing as Differing, Refused as Refused

# What float16 cannot hold.
from .analysis.half.tensors import FP16 as FP16, LARGEST as LARGEST, SMALLEST as SMALLEST
from .analysis.half.hazards import Constant as Constant, Hazard as Hazard, find_constants as find_constants
from .analysis.half.halved import Halved as Halved, HalfTrial as HalfTrial
from .calls import float16_call as float16_call

# What runtimes take.
from .analysis.targets import (
    Breach as Breach,
    Consequence as Consequence,
    TARGETS as TARGETS,
    Use as Use,
    applies as applies,
    breaches as breaches,
    held as held,
    read_target as read_target,
)
from .analysis.pairing.match import STRANGE as STRANGE
from .analysis.image.stem import Stem as Stem
from .analysis.image.encoding import (
    ENCODINGS as ENCODINGS,
    Encoding as Encoding,
    encoding_of as encoding_of,
    misfit as misfit,
    plainest as plainest,
    reencoded as reencoded,
    response as response,
)

# What can be mended.
from .rewrite.candidate import Refusal as Refusal
from .rewrite.channel_factors import ChannelFactors as ChannelFactors, movable_factors as movable_factors
from .rewrite.hygiene.shared_constants import OwnConstant as OwnConstant, own_constants as own_constants

# What rules say alike.
from .judge.advice.phrases import (
    channels as channels,
    multiple as multiple,
    of_operand as of_operand,
    times as times,
)
from .judge.advice.places import (
    locate as locate,
    whole_model as whole_model,
)
from .judge.advice.outlook import (
    Outlook as Outlook,
    harmless as harmless,
    linear_db as linear_db,
    outlook as outlook,
)
from .judge.advice.channel_scales import (
    finer_scale as finer_scale,
    left_in_float as left_in_float,
    shared_scale as shared_scale,
    sqnr_by_channel as sqnr_by_channel,
)
from .judge.advice.chain import explained as explained

__version__: str
