# -*- coding: utf-8 -*-
from django.db import migrations, models

import parcels.models

SOILS = {
    'clay': 'Arcilla',
    'sand': 'Arena',
    'loam': u'Limo ñ',
}
LIMITS = (0,)
EDGE = (0)


class Migration(migrations.Migration):
    dependencies = [('parcels', '0005_state')]
    operations = [
        migrations.AddField(
            model_name='parcel',
            name='soil',
            field=models.CharField(
                choices=[(key, SOILS[key]) for key in sorted(SOILS)],
                default=next(iter(SOILS)), max_length=10,
                validators=[parcels.models.OneOf(SOILS), lambda value: LIMITS[0] if value else EDGE],
            ),
            preserve_default=False,
        ),
    ]
